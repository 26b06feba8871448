"""Load on a running service: several clients ask phrases of a few images, each as fast as it is answered.

conceptseg serve &
python benchmarks/serving_load.py --url http://127.0.0.1:8000 --clients 4 --requests 40
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import httpx

PHRASES = ("coin", "red circle", "key", "striped star", "blue square", "cup")
COINS = Path(__file__).parents[1] / "src" / "conceptseg" / "assets" / "coins.png"


def ask(url: str, images: list[bytes], requests: int, first: int, rows: list[tuple[int, float]]) -> None:
    """One client: (status, seconds) of each of its requests goes into `rows`."""
    with httpx.Client(base_url=url, timeout=600) as client:
        for number in range(first, first + requests):
            prompt = json.dumps({"text": PHRASES[number % len(PHRASES)]})
            image = images[number % len(images)]
            begun = time.perf_counter()
            answer = client.post("/v1/segment", files={"image": image}, data={"prompt": prompt})
            rows.append((answer.status_code, time.perf_counter() - begun))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=40, help="of each client")
    parser.add_argument(
        "--image", type=Path, action="append", help="may be repeated; the coins when left out"
    )
    wanted = parser.parse_args()
    images = [path.read_bytes() for path in wanted.image or [COINS]]
    rows: list[tuple[int, float]] = []
    clients = [
        threading.Thread(target=ask, args=(wanted.url, images, wanted.requests, number, rows))
        for number in range(wanted.clients)
    ]
    begun = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - begun
    times = sorted(taken for status, taken in rows if status == 200)
    refused = sum(status == 503 for status, _ in rows)
    result = {
        "clients": wanted.clients,
        "requests": len(rows),
        "answered": len(times),
        "refused": refused,
        "failed": len(rows) - len(times) - refused,
        "answered_per_second": round(len(times) / seconds, 2),
        "median_seconds": round(statistics.median(times), 3) if times else None,
        "slowest_seconds": round(times[-1], 3) if times else None,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

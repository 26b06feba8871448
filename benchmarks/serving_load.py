"""Load on a service: several clients ask phrases of a few images, each as fast as it is answered.

    python benchmarks/serving_load.py                     # 1, 4 and 16 clients, and more than it takes
    python benchmarks/serving_load.py --requests 300 --resolution 256

Starts a service of its own, nano, in another process, writes `benchmarks/results/serving_load.md`. Processor
time is of the service alone; by the clock counts what else the machine does, the clients among it.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from conceptseg.benchmark.report import processor_name
from conceptseg.serving.settings import MIB, Settings

RESULTS = Path(__file__).resolve().parent / "results"
COINS = Path(__file__).resolve().parents[1] / "src" / "conceptseg" / "assets" / "coins.png"
PHRASES = ("coin", "red circle", "key", "striped star", "blue square", "cup")
IMAGES = 40  # more than the cache below keeps, so that it forgets and encodes all the time
CLIENTS = (1, 4, 16)
TOO_MANY = 48  # clients at once, for a queue of 16
SETTINGS = Settings(queue=16, timeout=3600, cache_bytes=8 * MIB)


@dataclass
class Load:
    """What some clients saw."""

    clients: int
    seconds: float = 0.0  # by the clock
    processor: float = 0.0  # seconds, of the service
    answers: list[tuple[int, float, str | None]] = field(default_factory=list)  # status, seconds, Retry-After

    def times(self) -> list[float]:
        return [seconds for status, seconds, _ in self.answers if status == 200]

    def row(self) -> str:
        times = self.times()
        refused = [again for status, _, again in self.answers if status == 503]
        assert len(times) + len(refused) == len(self.answers), "neither answered nor refused"
        assert all(again and int(again) >= 1 for again in refused), "refused without Retry-After"
        half, most = np.percentile(times, (50, 99))
        return (
            f"| {self.clients} | {len(times):,} | {len(refused):,} | {len(times) / self.seconds:.1f} | "
            f"{half:.2f} | {most:.2f} | {1000 * self.processor / len(times):.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="for each number of clients")
    parser.add_argument("--resolution", type=int, default=64, help="that nano sees")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    service = context.Process(target=serve_nano, args=(there, given.resolution), daemon=True)
    service.start()
    assert service.pid is not None
    url, images = f"http://127.0.0.1:{here.recv()}", pictures()
    busy = os.getloadavg()[0]
    memory = []
    with httpx.Client(base_url=url, timeout=None) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.2)
    load(url, images, 1, 2 * IMAGES, service.pid)  # what is made once is made
    loads = []
    for clients in (*CLIENTS, TOO_MANY):
        memory.append(resident(service.pid))
        loads.append(load(url, images, clients, given.requests, service.pid))
    memory.append(resident(service.pid))
    service.terminate()
    service.join()
    options = f" --requests {given.requests} --resolution {given.resolution}"
    lines = [
        "# A service under load",
        "",
        f"Written by `python benchmarks/serving_load.py{options}`.",
        "",
        f"{processor_name()}, one thread on one core that other work kept busy, the clients among it (load "
        f"before: {busy:.1f}), so processor time is what to compare. nano at {given.resolution} px, one "
        f"phrase of one of {IMAGES} images in each request, {SETTINGS.cache_bytes // MIB} MiB of encoded "
        f"images kept, a queue of {SETTINGS.queue}.",
        "",
        "| clients | answered | refused (503, Retry-After) | answered per second | median s | 99 % within s "
        "| processor ms per answer |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(one.row() for one in loads),
        "",
        "Resident memory of the service before the first of these, between them, and after the last, MiB: "
        f"{', '.join(f'{mebibytes:.0f}' for mebibytes in memory)}.",
        "",
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "serving_load.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def load(url: str, images: list[bytes], clients: int, requests: int, service: int) -> Load:
    """So many requests, shared by so many clients."""
    seen, begun, before = Load(clients), time.monotonic(), processor_seconds(service)
    threads = [
        threading.Thread(target=ask, args=(url, images, range(number, requests, clients), seen.answers))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds = time.monotonic() - begun
    seen.processor = processor_seconds(service) - before
    return seen


def ask(url: str, images: list[bytes], numbers: range, answers: list[tuple[int, float, str | None]]) -> None:
    """One client. What is refused is not asked again."""
    with httpx.Client(base_url=url, timeout=None) as client:
        for number in numbers:
            prompt = json.dumps({"text": PHRASES[number % len(PHRASES)]})
            image = images[number % len(images)]
            begun = time.perf_counter()
            answer = client.post("/v1/segment", files={"image": image}, data={"prompt": prompt})
            taken = time.perf_counter() - begun
            answers.append((answer.status_code, taken, answer.headers.get("Retry-After")))


def serve_nano(pipe: multiprocessing.connection.Connection, resolution: int) -> None:
    """The other process."""
    import torch

    from conceptseg.loading import load as load_model
    from conceptseg.serving.app import make_app
    from conceptseg.serving.run import listen, serve

    torch.set_num_threads(1)
    listening = listen("127.0.0.1", 0)
    pipe.send(listening.getsockname()[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a line for each request
    serve(make_app(lambda: load_model("nano", resolution=resolution), "nano", SETTINGS), listening)


def pictures() -> list[bytes]:
    """Parts of the coins, each a PNG file."""
    coins, files = Image.open(COINS), []
    for number in range(IMAGES):
        file = io.BytesIO()
        coins.crop((number, number, number + 256, number + 256)).save(file, format="PNG")
        files.append(file.getvalue())
    return files


def resident(process: int) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def processor_seconds(process: int) -> float:
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

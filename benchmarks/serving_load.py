"""Load on a service: several clients ask phrases of a few images, each as fast as it is answered.

    pip install locust                                    # the load is its
    python benchmarks/serving_load.py                     # 1, 4 and 16 clients, and more than it takes
    python benchmarks/serving_load.py --requests 300 --resolution 256

Starts `conceptseg serve` with nano in another process, and writes `benchmarks/results/serving_load.md`.
Processor time is of the service alone; by the clock counts what else the machine does, the clients among it.
"""

from __future__ import annotations

# Before all else, since it has the network wait by turns: gevent.
from locust import HttpUser, task  # isort: skip
from locust.env import Environment  # isort: skip
from locust.exception import StopUser  # isort: skip

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
from PIL import Image

from conceptseg.benchmark.report import processor_name
from conceptseg.hub import find_model

MIB = 1 << 20
RESULTS = Path(__file__).resolve().parent / "results"
COINS = Path(__file__).resolve().parents[1] / "src" / "conceptseg" / "assets" / "coins.png"
PHRASES = ("coin", "red circle", "key", "striped star", "blue square", "cup")
IMAGES = 40  # more than the cache below keeps, so that it forgets and encodes all the time
CLIENTS = (1, 4, 16)
QUEUE, CACHE_MB = 16, 8
TOO_MANY = 48  # clients at once, for this queue
WATCHED = 1000  # requests between two looks at the memory


class Client(HttpUser):
    """One client. What is refused is not asked again."""

    images: ClassVar[list[bytes]] = []
    numbers: ClassVar[Iterator[int]] = iter(())  # of the requests that are left, for all clients together

    @task
    def segment(self) -> None:
        number = next(self.numbers, None)
        if number is None:
            raise StopUser
        with self.client.post(
            "/v1/segment",
            files={"image": self.images[number % len(self.images)]},
            data={"prompt": json.dumps({"text": PHRASES[number % len(PHRASES)]})},
            name="answered",
            catch_response=True,
        ) as answer:
            if answer.status_code == 503 and int(answer.headers.get("Retry-After", 0)) >= 1:
                answer.request_meta["name"] = "refused"
                answer.success()


@dataclass
class Load:
    """What some clients saw, and what the service took for it."""

    clients: int
    seconds: float  # by the clock
    processor: float  # seconds, of the service
    answered: int
    refused: int
    half: float  # of the answered ones within so many seconds
    most: float  # likewise 99 %
    memory: list[float] = field(default_factory=list)  # MiB before the first request, after each thousand

    def row(self) -> str:
        return (
            f"| {self.clients} | {self.answered:,} | {self.refused:,} | {self.answered / self.seconds:.1f} | "
            f"{self.half:.2f} | {self.most:.2f} | {1000 * self.processor / self.answered:.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="for each number of clients")
    parser.add_argument("--resolution", type=int, default=64, help="that nano sees")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    busy = os.getloadavg()[0]
    Client.images = pictures()
    with served(given.resolution) as (url, service):
        load(url, 1, 2 * IMAGES, service)  # what is made once is made
        loads = [load(url, clients, given.requests, service) for clients in (*CLIENTS, TOO_MANY)]
    options = f" --requests {given.requests} --resolution {given.resolution}"
    lines = [
        "# A service under load",
        "",
        f"Written by `python benchmarks/serving_load.py{options}`, whose clients are those of Locust.",
        "",
        f"{processor_name()}, one thread for the model; load of the machine before: {busy:.1f}, the clients "
        f"come on top. nano at {given.resolution} px, one phrase of one of {IMAGES} images in each request, "
        f"{CACHE_MB} MiB of encoded images kept, a queue of {QUEUE}. Locust rounds times to two digits.",
        "",
        "| clients | answered | refused (503, Retry-After) | answered per second | median s | 99 % within s "
        "| processor ms per answer |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(one.row() for one in loads),
        "",
        f"Resident memory of the service, MiB, before the first request and after each {WATCHED:,}:",
        "",
        *(f"- {one.clients} clients: {', '.join(f'{mib:.0f}' for mib in one.memory)}" for one in loads),
        "",
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "serving_load.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def load(url: str, clients: int, requests: int, service: psutil.Process) -> Load:
    """So many requests, shared by so many clients.

    Raises:
        RuntimeError: one was neither answered nor refused as it should be.
    """
    Client.numbers, done = iter(range(requests)), count(1)
    memory = [resident(service)]

    def watch(**_: Any) -> None:
        if next(done) % WATCHED == 0:
            memory.append(resident(service))

    environment = Environment(user_classes=[Client], host=url)
    environment.events.request.add_listener(watch)
    runner = environment.create_local_runner()
    begun, before = time.monotonic(), processor_seconds(service)
    runner.start(clients, spawn_rate=clients)
    while environment.stats.total.num_requests < requests:
        time.sleep(0.05)
    seconds, processor = time.monotonic() - begun, processor_seconds(service) - before
    runner.quit()
    if environment.stats.errors:
        raise RuntimeError("; ".join(str(error.error) for error in environment.stats.errors.values()))
    answered, refused = (environment.stats.get(name, "POST") for name in ("answered", "refused"))
    half, most = (answered.get_response_time_percentile(share) / 1000 for share in (0.5, 0.99))
    return Load(clients, seconds, processor, answered.num_requests, refused.num_requests, half, most, memory)


@contextmanager
def served(resolution: int) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a service."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "nano"
        shutil.copytree(find_model("nano"), model)
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        config["preprocessing"]["resolution"] = resolution
        (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
        words = ["serve", "--model", str(model), "--port", "0", "--queue", str(QUEUE), "--timeout", "3600"]
        with (Path(folder) / "log").open("wb") as log:  # a line for each request
            process = subprocess.Popen(
                [sys.executable, "-m", "conceptseg", *words, "--cache-mb", str(CACHE_MB)],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            try:
                yield address(Path(log.name), process), psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait()


def address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the service listens, once its model is loaded."""
    while not (found := re.search(r"http://[\d.]+:\d+", log.read_text(encoding="utf-8"))):
        if process.poll() is not None:
            raise RuntimeError(log.read_text(encoding="utf-8"))
        time.sleep(0.2)
    while httpx.get(f"{found[0]}/readyz").status_code != 200:
        time.sleep(0.2)
    return found[0]


def pictures() -> list[bytes]:
    """Parts of the coins, each a PNG file."""
    coins, files = Image.open(COINS), []
    for number in range(IMAGES):
        file = io.BytesIO()
        coins.crop((number, number, number + 256, number + 256)).save(file, format="PNG")
        files.append(file.getvalue())
    return files


def resident(process: psutil.Process) -> float:
    """MiB."""
    return process.memory_info().rss / MIB


def processor_seconds(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return spent.user + spent.system


if __name__ == "__main__":
    main()

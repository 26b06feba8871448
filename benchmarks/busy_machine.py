"""One phrase on a quiet and on a busy machine, with threads that spin while they wait and that sleep.

    python benchmarks/busy_machine.py
    python benchmarks/busy_machine.py sam3.pt --beside 4 --repeats 3

Every cell is the median over phrases in a process of its own. Beside it run as many processes as there are
cores, or as `--beside` says, each of which only counts. What else the machine does, its load before tells.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

POLICY = "OMP_WAIT_POLICY"
POLICIES = {"as OpenMP has it": None, f"{POLICY}=PASSIVE": "PASSIVE"}
ASK, COUNT = "--ask", "while True: pass"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--beside", type=int, default=os.cpu_count(), help="processes on the busy machine")
    parser.add_argument("--repeats", type=int, default=7, help="phrases asked, after one that is not counted")
    parser.add_argument(ASK, action="store_true", help="ask in this process and print seconds")
    given = parser.parse_args(arguments)
    if given.ask:
        print(ask(given.model, given.repeats))
        return
    from conceptseg.benchmark.report import processor_name

    machine = f"{processor_name()}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}"
    rows = [
        (name, *(measure(given.model, given.repeats, policy, beside) for beside in (0, given.beside)))
        for name, policy in POLICIES.items()
    ]
    print(f"{given.model}, one phrase, seconds; {machine}\n")
    print(f"| threads wait | nothing beside | {given.beside} processes beside |")
    print("| --- | ---: | ---: |")
    for name, quiet, busy in rows:
        print(f"| {name} | {quiet:.3f} | {busy:.3f} |")


def measure(model: str, repeats: int, policy: str | None, beside: int) -> float:
    """Seconds of one phrase in a fresh process, with so many others beside it."""
    environment = {name: value for name, value in os.environ.items() if name != POLICY}
    if policy is not None:
        environment[POLICY] = policy
    command = [sys.executable, __file__, model, ASK, "--repeats", str(repeats)]
    with counting(beside):
        asked = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(asked.stdout)


@contextlib.contextmanager
def counting(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that take all the time they get."""
    others = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(processes)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()


def ask(model: str, repeats: int) -> float:
    """Median seconds of one phrase on the photograph of coins."""
    import conceptseg as cs

    photograph = Path(cs.__file__).parent / "assets" / "coins.png"
    segmenter = cs.load(model, device="cpu")
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        segmenter.segment(photograph, text="coin")
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()

"""How long `conceptseg segment` takes as a process, how much of that is `import torch`, what imports cost.

    python benchmarks/startup.py                    # 7 rounds in turns, files in memory
    python benchmarks/startup.py --busy 2           # the same beside two processes that only count

Prints two tables in Markdown: seconds of whole processes, least and median; and milliseconds of each
package's own modules, of one process under `-X importtime`.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import conceptseg
from conceptseg.benchmark.report import processor_name
from conceptseg.report import markdown_table

PHOTOGRAPH = Path(conceptseg.__file__).parent / "assets" / "coffee.jpg"
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([^\s.]+)")
LEAST_SHOWN = 10  # milliseconds


def count() -> None:
    """Keep a core busy for good."""
    while True:
        pass


def processes(out: str) -> dict[str, list[str]]:
    """Name -> arguments of Python."""
    segment = ["-m", "conceptseg", "segment", str(PHOTOGRAPH), "--text", "cup", "--out", out]
    return {
        "`python -c pass`": ["-c", "pass"],
        "`python -c 'import torch'`": ["-c", "import torch"],
        "`conceptseg --help`": ["-m", "conceptseg", "--help"],
        "`conceptseg segment`, `nano`, one phrase": segment,
    }


def run(arguments: Sequence[str], *options: str) -> tuple[float, str]:
    """Seconds of a process by the clock, and what it wrote to standard error."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *options, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stderr


def imported(stderr: str) -> dict[str, float]:
    """Package -> milliseconds of its own modules, the longest first."""
    total: collections.Counter[str] = collections.Counter()
    for line in stderr.splitlines():
        found = IMPORT.match(line)
        if found:
            total[found[2]] += int(found[1])
    return {name: micros / 1000 for name, micros in total.most_common()}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--busy", type=int, default=0, help="processes beside that only count")
    given = parser.parse_args(words)
    beside = [multiprocessing.Process(target=count, daemon=True) for _ in range(given.busy)]
    for process in beside:
        process.start()
    with tempfile.TemporaryDirectory() as folder:
        asked = processes(str(Path(folder) / "out"))
        took: dict[str, list[float]] = {name: [] for name in asked}
        for number in range(given.rounds + 1):
            for name, arguments in asked.items():
                seconds, _ = run(arguments)
                if number:  # the first brings the files into memory
                    took[name].append(seconds)
        *_, segment = asked.values()
        _, said = run(segment, "-X", "importtime")
    for process in beside:
        process.kill()
    print(f"{processor_name()}, Python {sys.version.split()[0]}, {given.busy} processes beside\n")
    rows = [[name, f"{min(it):.2f}", f"{statistics.median(it):.2f}"] for name, it in took.items()]
    print(markdown_table(["process", "least, s", "median, s"], rows), "\n")
    packages = imported(said)
    shown = [[name, f"{ms:.0f}"] for name, ms in packages.items() if ms >= LEAST_SHOWN]
    rest = sum(ms for ms in packages.values() if ms < LEAST_SHOWN)
    print(markdown_table(["imported", "ms"], [*shown, ["all others", f"{rest:.0f}"]]))


if __name__ == "__main__":
    main()

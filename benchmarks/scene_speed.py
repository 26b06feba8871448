"""How many scenes one core renders in a second.

    python benchmarks/scene_speed.py

Writes `benchmarks/results/scene_speed.md`. Time is the processor's, so other programs disturb it little.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

from conceptseg.data.scenes import render_scene

RESULTS = Path(__file__).resolve().parent / "results"


def scenes_per_second(count: int, size: int, difficulty: float) -> tuple[float, float]:
    """Scenes per second of one core, and objects per scene."""
    render_scene(0, size=size)  # makes the noise bank, once per process
    start = time.process_time()
    objects = [len(render_scene(seed, size=size, difficulty=difficulty).objects) for seed in range(count)]
    return count / (time.process_time() - start), sum(objects) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="scenes per setting (default: 300)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    lines = [
        "| size | difficulty | scenes/s on one core | objects per scene |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for size in (128, 256, 512):
        for difficulty in (0.0, 0.5, 1.0):
            speed, objects = scenes_per_second(arguments.count, size, difficulty)
            lines.append(f"| {size} | {difficulty:g} | {speed:.0f} | {objects:.1f} |")
            print(lines[-1])
    arguments.out.mkdir(parents=True, exist_ok=True)
    target = arguments.out / "scene_speed.md"
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    introduction = f"# Speed of scenes\n\nOne process, {arguments.count} scenes each, {machine}.\n"
    command = "Written by `python benchmarks/scene_speed.py`."
    target.write_text("\n".join([introduction + command, "", *lines, ""]), encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()

"""SAM 3 at its released size on a GPU, random weights: right, fast, in what memory, beside `transformers`.

    python benchmarks/gpu.py FOLDER                            # all of it within 8 minutes
    python benchmarks/gpu.py FOLDER --device cpu --size tiny   # the same on a small network, to try it

In this order, each part only while there is time, and written down as soon as it is done:

correct       the answers in bfloat16 on the GPU against float32 on the CPU
speed         1 and 8 phrases on one image, stage by stage, in turns with `transformers` (bfloat16, its own
              fused attention), and the memory of each in a process of its own
batch         4 images and one phrase at once, against one after the other
compiled      the vision encoder through `torch.compile` (CUDA graphs), against as it is

FOLDER takes about 4 GB. Writes gpu.json and gpu.md to benchmarks/results (with --size tiny to FOLDER). Needs
the `test` extra.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402  # after the path, as below

import conceptseg as cs  # noqa: E402
from benchmarks.random_sam3 import SIZES, write_random_sam3  # noqa: E402
from conceptseg.benchmark.programs import Ours  # noqa: E402
from conceptseg.benchmark.run import benchmark, compare  # noqa: E402
from conceptseg.checkpoints.atomic_write import write_text  # noqa: E402
from conceptseg.report import markdown_table, report_json  # noqa: E402

PHOTOGRAPH = Path(cs.__file__).parent / "assets" / "coins.png"
RESULTS = ROOT / "benchmarks" / "results"
PHRASES, BATCH, REPEATS = (1, 8), 4, 7
AIMS = {1: 0.6, 8: 0.35}  # of the time of `transformers`, by phrases
DTYPE = "bfloat16"


def correct(model: Path, device: str) -> dict[str, Any]:
    """Differences as `conceptseg benchmark` tells them."""
    rounded, exact = Ours(model, device, DTYPE), Ours(model, "cpu", "float32")
    one, other = (program.raw(PHOTOGRAPH, "coin") for program in (rounded, exact))
    return compare(one, other, exact.segmenter.resolution)


def speed(model: Path, device: str) -> dict[str, Any]:
    """Medians of both programs, and ours as a share of theirs."""
    found = benchmark(
        model,
        PHOTOGRAPH,
        against="transformers",
        phrases=PHRASES,
        repeats=REPEATS,
        device=device,
        dtype=DTYPE,
        their_dtype=DTYPE,
    )
    ours, theirs = found.programs["conceptseg"], found.programs["transformers"]
    ratios = {count: ours.end_to_end[count] / theirs.end_to_end[count] for count in PHRASES}
    return {**dataclasses.asdict(found), "ratios": ratios, "aims": AIMS}


def batch(model: Path, device: str) -> dict[str, Any]:
    """Seconds of several images at once and one after the other."""
    segmenter = cs.load(model, device=device, dtype=DTYPE)
    images = [PHOTOGRAPH] * BATCH
    together, apart = in_turns(
        lambda: list(segmenter.segment_many(images, text="coin", batch_size=BATCH)),
        lambda: [segmenter.segment(image, text="coin") for image in images],
        device,
    )
    return {"images": BATCH, "together": together, "apart": apart}


def compiled(model: Path, device: str) -> dict[str, Any]:
    """Seconds of the vision encoder compiled and as it is, and how far their maps lie apart."""
    segmenter = cs.load(model, device=device, dtype=DTYPE)
    network = segmenter.detector
    plain, quick = network.vision_encoder, torch.compile(network.vision_encoder, mode="reduce-overhead")
    side = segmenter.resolution
    pixels = torch.rand(1, 3, side, side, device=segmenter.device, dtype=segmenter.dtype)
    with segmenter.inference():
        began = time.perf_counter()
        maps = [level.float().clone() for level in quick(pixels)]
        took = time.perf_counter() - began
        apart = max(
            float((a - b.float()).norm() / b.float().norm()) for a, b in zip(maps, plain(pixels), strict=True)
        )
        fast, slow = in_turns(lambda: quick(pixels), lambda: plain(pixels), device)
    return {"compiled": fast, "as_it_is": slow, "compiling": took, "apart": apart}


def in_turns(one: Callable[[], object], other: Callable[[], object], device: str) -> tuple[float, float]:
    """Median seconds of two things, done in turns; the first round is not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(REPEATS + 1):
        for do, seconds in zip((one, other), taken, strict=True):
            began = time.perf_counter()
            do()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number:
                seconds.append(time.perf_counter() - began)
    return statistics.median(taken[0]), statistics.median(taken[1])


PARTS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "correct": correct,
    "speed": speed,
    "batch": batch,
    "compiled": compiled,
}


def report(found: dict[str, Any]) -> str:
    """Everything that was measured, in Markdown."""
    lines = [f"# SAM 3 with random weights on {found['device']}", ""]
    lines += [f"torch {torch.__version__}, {found['size']} size, {DTYPE}.", ""]
    if "correct" in found:
        told = ", ".join(f"{name} {value:.2g}" for name, value in found["correct"].items())
        lines += [f"Against float32 on the CPU: {told}.", ""]
    rows: list[list[str]] = []
    if "speed" in found:
        speed = found["speed"]
        for name, program in speed["programs"].items():
            times = [f"{1e3 * program['end_to_end'][count]:.1f}" for count in PHRASES]
            rows.append([name, *times, f"{program['memory'].get('gpu', program['memory']['resident']):.0f}"])
        ratios = [f"{speed['ratios'][count]:.2f} (aim {AIMS[count]})" for count in PHRASES]
        rows.append(["conceptseg / transformers", *ratios, ""])
        lines += [markdown_table(["ms", *(f"{count} phrases" for count in PHRASES), "MiB"], rows), ""]
    if "batch" in found:
        one = found["batch"]
        lines += [
            f"{one['images']} images at once {1e3 * one['together']:.1f} ms, one after the other "
            f"{1e3 * one['apart']:.1f} ms.",
            "",
        ]
    if "compiled" in found:
        one = found["compiled"]
        lines += [
            f"Vision encoder compiled {1e3 * one['compiled']:.1f} ms, "
            f"as it is {1e3 * one['as_it_is']:.1f} ms (compiling took {one['compiling']:.0f} s; "
            f"maps differ by {one['apart']:.2g}).",
            "",
        ]
    for name, why in found["left_out"].items():
        lines += [f"Left out: {name} ({why}).", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    if options.device.startswith("cuda"):
        where = torch.cuda.get_device_name(options.device)
    else:
        where = options.device
    out = RESULTS if options.size == "full" else options.folder
    out.mkdir(parents=True, exist_ok=True)
    model = options.folder / f"random-{options.size}"
    if not (model / "model.safetensors").is_file():
        write_random_sam3(model, options.size)
    found: dict[str, Any] = {"device": where, "size": options.size, "left_out": {}}
    for name, measure in PARTS.items():
        if time.monotonic() > end:
            found["left_out"][name] = "no time was left"
        else:
            began = time.monotonic()
            try:
                found[name] = measure(model, options.device)
            except Exception as error:  # the parts after it are worth having all the same
                found["left_out"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        write_text(out / "gpu.json", report_json(found))
        write_text(out / "gpu.md", report(found))
    print((out / "gpu.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

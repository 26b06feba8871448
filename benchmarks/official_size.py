"""SAM 3 at its released size, random weights: the answers of `transformers`, how fast, in what memory.

    python benchmarks/official_size.py all FOLDER         # every step, each in a process of its own
    python benchmarks/official_size.py write FOLDER       # random weights: FOLDER/hf, /official, /own
    python benchmarks/official_size.py parity FOLDER      # every output against transformers, float32
    python benchmarks/official_size.py load FOLDER        # time and memory of loading, medians
    python benchmarks/official_size.py segment FOLDER     # `conceptseg segment`, time per stage, memory
    python benchmarks/official_size.py all FOLDER --size tiny    # the same in a minute, to try it
    python benchmarks/official_size.py load FOLDER --size quarter    # with 8 and 4 layers for 32 and 24

FOLDER takes about 10 GB. `parity` holds one model at a time, about 8 GB with what it computes. Linux only:
memory is read from /proc. Needs the `test` extra. Writes official_size.json and official_size.md to
benchmarks/results (with --size tiny to FOLDER/results); every step adds its part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.official_size_report import report  # noqa: E402  # after the path, as below

if TYPE_CHECKING:  # this process stays small, because the peak memory of a child counts from its parent's
    from torch import Tensor

RESULTS = ROOT / "benchmarks" / "results"
FRESH_PROCESS = Path(__file__).with_name("fresh_process.py")
PHOTOGRAPH = ROOT / "src" / "conceptseg" / "assets" / "coins.png"
STEPS = ("write", "parity", "load", "segment")
ALLOWED = 1e-3  # largest difference of an output, relative to its largest value

# Pixels of the photograph, x0, y0, x1, y1, and 1 = like this, 0 = not like this.
COIN, GROUND = ([189.0, 170.0, 237.0, 217.0], 1), ([20.0, 5.0, 60.0, 30.0], 0)
CASES: dict[str, tuple[str | None, list[tuple[list[float], int]]]] = {
    "text": ("silver coin", []),
    "text and boxes": ("silver coin", [COIN, GROUND]),
    "boxes only": (None, [COIN, GROUND]),
}


def write(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same weights in three layouts; the others are made of the first by `conceptseg convert`."""
    from benchmarks.random_sam3 import write_random_sam3

    for name in ("hf", "official", "own"):
        shutil.rmtree(folder / name, ignore_errors=True)
    parameters = write_random_sam3(folder / "hf", arguments.size)
    convert = [sys.executable, "-m", "conceptseg", "convert"]
    subprocess.run([*convert, folder / "hf", "--to", folder / "own"], check=True)
    official = [folder / "own", "--to", folder / "official", "--format", "official"]
    subprocess.run([*convert, *official], check=True)
    return {"parameters": parameters, "gib": round(parameters * 4 / 2**30, 3)}


def parity(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """From picture, phrase and boxes to every raw output, through each side's own processor."""
    import torch

    torch.set_num_threads(arguments.threads)
    theirs = run_transformers(folder / "hf")
    result = {}
    for layout in ("hf", "official", "own"):
        compared = compare(theirs, run_ours(folder / layout))
        worst = max(row["relative"] for rows in compared.values() for row in rows.values())
        result[layout] = {"cases": compared, "worst_relative": worst, "within_limit": worst <= ALLOWED}
        print(f"{layout}: largest relative difference {worst:.1e} (allowed {ALLOWED:.0e})", file=sys.stderr)
    return {"allowed_relative": ALLOWED, "layouts": result}


def load(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Each program and layout in turn, as often as asked; files are in the page cache from the first time."""
    ways = {
        "transformers": ("transformers", "hf"),
        "conceptseg, Hugging Face folder": ("conceptseg", "hf"),
        "conceptseg, official file": ("conceptseg", "official"),
        "conceptseg, own folder": ("conceptseg", "own"),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(arguments.repeats + 1):
        for name, (program, layout) in ways.items():
            measured = _fresh("load", program, str(_weights(folder / layout)), threads=arguments.threads)
            if number:  # the first time only reads the files into the page cache
                runs[name].append(measured)
                print(f"{name}: {measured['seconds']} s", file=sys.stderr)
    return {
        "repeats": arguments.repeats,
        "ways": {name: medians(measured) for name, measured in runs.items()},
    }


def segment(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The command as a user types it, then its stages."""
    out = folder / "segmented"
    out.mkdir(exist_ok=True)
    options = ["--text", "silver coin", "--device", "cpu", "--dtype", "float32", "--out", str(out)]
    command = ["segment", str(PHOTOGRAPH), "--model", str(folder / "hf"), *options]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "conceptseg", *command], env=_environment(arguments.threads)
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"conceptseg segment ended with exit code {process.returncode}")
    seconds = time.perf_counter() - start
    stages = _fresh(
        "segment", str(folder / "hf"), str(PHOTOGRAPH), "silver coin", str(out), threads=arguments.threads
    )
    return {
        "command": {"seconds": round(seconds, 2), "peak_mib": round(usage.ru_maxrss / 1024, 1)},
        "stages": stages,
    }


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of every number of equal, possibly nested, measurements."""
    return {
        name: medians([run[name] for run in runs])
        if isinstance(value, dict)
        else statistics.median([run[name] for run in runs])
        for name, value in runs[0].items()
    }


def difference(theirs: Tensor, ours: Tensor) -> dict[str, float]:
    """How far apart one output is, and how large it is, so that a small difference means something."""
    assert theirs.shape == ours.shape, f"{tuple(theirs.shape)} and {tuple(ours.shape)}"
    apart, largest = float((theirs - ours).abs().max()), float(theirs.abs().max())
    return {
        "absolute": apart,
        "relative": apart / largest,
        "largest": largest,
        "standard_deviation": float(theirs.std(correction=0)),
    }


def run_transformers(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Case -> output -> value."""
    import torch
    from PIL import Image
    from transformers import Sam3Model, Sam3Processor

    from tests.parity.cases import PADDING_LABEL, memory_of, theirs_by_name

    model, processor = Sam3Model.from_pretrained(folder).eval(), Sam3Processor.from_pretrained(folder)
    picture = Image.open(PHOTOGRAPH).convert("RGB")
    found = {}
    with torch.no_grad():
        seen = model.get_vision_features(processor(images=picture, return_tensors="pt").pixel_values)
        for name, (phrase, boxes) in CASES.items():
            # A padded box makes it run the exemplar encoder without boxes too, as the official code does.
            rows, labels = zip(*(boxes or [(COIN[0], PADDING_LABEL)]), strict=True)
            asked = processor(
                text=phrase,
                original_sizes=[picture.size[::-1]],
                input_boxes=[list(rows)],
                input_boxes_labels=[list(labels)],
                return_tensors="pt",
            )
            del asked["original_sizes"]
            with memory_of(model) as caught:
                output = model(vision_embeds=seen, **asked)
            levels = {f"level {i}": level for i, level in enumerate(seen.fpn_hidden_states[:-1])}
            found[name] = {**levels, **theirs_by_name(output, caught[0])}
    return found


def run_ours(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The same, through the public `load` and the checks that `segment` makes of a prompt."""
    import torch

    import conceptseg as cs
    from conceptseg.images import load_image
    from conceptseg.prompts import VISUAL, check_boxes
    from tests.parity.cases import by_name

    segmenter = cs.load(_weights(folder), device="cpu", dtype="float32")
    picture = load_image(PHOTOGRAPH)
    features = segmenter.encode_pixels([picture])
    found = {}
    for name, (phrase, boxes) in CASES.items():
        rows, labels = [box for box, _ in boxes], [label for _, label in boxes]
        examples = check_boxes(rows, labels, picture.size_hw)
        with segmenter.inference():
            words = segmenter.text_tokens([phrase or VISUAL])
            geometry = examples.to_model() if examples else None
            image_index = torch.zeros(1, dtype=torch.long)
            output = by_name(segmenter.detector.answer(features, words, geometry, image_index))
        levels = {f"level {i}": level for i, level in enumerate(features.levels)}
        found[name] = {**levels, **output}
    return found


def compare(
    theirs: dict[str, dict[str, Tensor]], ours: dict[str, dict[str, Tensor]]
) -> dict[str, dict[str, dict[str, float]]]:
    for outputs in ours.values():
        # Theirs limits presence to plus or minus 10, which the official code writes but does not do.
        outputs["presence logits"] = outputs["presence logits"].clamp(-10, 10)
    return {
        case: {name: difference(value, ours[case][name]) for name, value in outputs.items()}
        for case, outputs in theirs.items()
    }


def _weights(folder: Path) -> Path:
    """What `cs.load` and `transformers` are given: the folder, or the one official file in it."""
    files = sorted(folder.glob("*.pt"))
    return files[0] if files else folder


def _fresh(*command: str, threads: int) -> dict[str, Any]:
    process = subprocess.run(
        [sys.executable, str(FRESH_PROCESS), *command],
        check=True,
        stdout=subprocess.PIPE,
        env=_environment(threads),
    )
    return json.loads(process.stdout.splitlines()[-1])


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def _machine(threads: int) -> dict[str, Any]:
    from importlib.metadata import version

    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(memory_bytes / 2**30),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "safetensors", "conceptseg")},
    }


def _run_step(step: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Run one step and put its part into the results."""
    measured = {"write": write, "parity": parity, "load": load, "segment": segment}[step](folder, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "official_size.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and step != "write" else {}
    results = {**results, "size": arguments.size, "machine": _machine(arguments.threads), step: measured}
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(results), encoding="utf-8")
    print(f"wrote {path} and {path.with_suffix('.md').name}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("folder", type=Path, help="where the models are written to and read from")
    parser.add_argument("--size", choices=("full", "quarter", "tiny"), default="full")
    parser.add_argument("--threads", type=int, default=2, help="threads of every computation (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="loads to take the median of (default: 5)")
    parser.add_argument("--out", type=Path, help="folder of the results")
    arguments = parser.parse_args()
    if arguments.out is None:
        arguments.out = RESULTS if arguments.size == "full" else arguments.folder / "results"
    if arguments.step != "all":
        _run_step(arguments.step, arguments.folder, arguments)
        return
    for step in STEPS:
        command = [sys.executable, __file__, step, str(arguments.folder), "--size", arguments.size]
        command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
        subprocess.run([*command, "--out", str(arguments.out)], check=True)


if __name__ == "__main__":
    main()

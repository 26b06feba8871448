"""One model in torch, ONNX Runtime and OpenVINO, in turns: time per stage, and how far the answers lie apart.

    python benchmarks/onnx_speed.py nano FOLDER
    python benchmarks/onnx_speed.py sam3-efficientvit FOLDER     # a preset: its sizes with random weights
    python benchmarks/onnx_speed.py sam3.pt FOLDER --programs onnx,openvino-bf16 --phrases 1 --no-check

Exports to FOLDER/float32 and FOLDER/int8 first; what is there already is taken as it is. Every program is
asked through the same `Segmenter`. Needs `pip install 'conceptseg[onnx,openvino]'`.
Prints a Markdown table of medians and writes FOLDER/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import conceptseg as cs  # noqa: E402  # after the path, as below
from benchmarks.distillation_step import build_teacher  # noqa: E402
from benchmarks.random_sam3 import CLIP_TOKENS, made_up_vocabulary  # noqa: E402
from conceptseg.benchmark.programs import Ours  # noqa: E402
from conceptseg.benchmark.report import processor_name  # noqa: E402
from conceptseg.benchmark.run import compare, take_turns  # noqa: E402
from conceptseg.checkpoints.atomic_write import write_text  # noqa: E402
from conceptseg.checkpoints.folder import save_model_folder  # noqa: E402
from conceptseg.choices import Runtime  # noqa: E402
from conceptseg.export.onnx_export import export_onnx  # noqa: E402
from conceptseg.hub import find_model  # noqa: E402
from conceptseg.models.presets import PRESETS  # noqa: E402
from conceptseg.models.text.tokenizer import Tokenizer  # noqa: E402
from conceptseg.models.text.tokenizer_files import clip_tokenizer  # noqa: E402

PHOTOGRAPH = Path(cs.__file__).parent / "assets" / "coins.png"
PROGRAMS = (
    "torch",
    "torch-bf16",
    "onnx",
    "onnx-int8",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
)
SHOWN = ("vision", "text", "exemplar", "detector")


def model_folder(model: str, scratch: Path) -> Path:
    """A model by its name; of a preset, its sizes with random weights."""
    if model not in PRESETS or model == "nano":
        return find_model(model)
    folder = scratch / "model"
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        made = build_teacher(model, resolution=1008)
        tokenizer, text = made.tokenizer, made.config.architecture.text
        if text.vocab_size == CLIP_TOKENS:  # which takes no smaller tokenizer
            tokenizer = Tokenizer(clip_tokenizer(*made_up_vocabulary()), text.context_length)
        save_model_folder(folder, made.detector("cpu"), tokenizer, made.config)
    return folder


def export(model: Path, scratch: Path, quantize: str, check: bool) -> tuple[Path, float | None]:
    """The exported folder, and the seconds that it took; None when it was there."""
    folder = scratch / ("int8" if quantize == "int8" else "float32")
    if (folder / "config.json").is_file():
        return folder, None
    segmenter = cs.load(model, device="cpu", dtype="float32")
    began = time.perf_counter()
    export_onnx(segmenter, folder, quantize=quantize, check=check)  # type: ignore[arg-type]
    return folder, time.perf_counter() - began


def open_program(name: str, model: Path, scratch: Path) -> Ours:
    """One row of the table."""
    if name.startswith("torch"):
        opened = Ours(model, "cpu", "bfloat16" if name.endswith("bf16") else "float32")
    else:
        folder = scratch / ("int8" if name.endswith("int8") else "float32")
        runtime: Runtime = "openvino" if name.startswith("openvino") else "onnxruntime"
        opened = Ours(folder, "cpu", "bfloat16" if name.endswith("bf16") else "float32", runtime)
    opened.name = name
    return opened


def measure(names: list[str], model: Path, scratch: Path, phrases: list[int], repeats: int) -> dict[str, Any]:
    """Medians of every program, and its distance from the first one."""
    programs = [open_program(name, model, scratch) for name in names]
    first = programs[0]
    rounds = take_turns(
        programs,
        PHOTOGRAPH,
        ["coin"],
        phrases,
        repeats,
        lambda done, all_: print(done, all_, file=sys.stderr),
    )
    answers = {program.name: program.raw(PHOTOGRAPH, "coin") for program in programs}
    resolution = first.segmenter.resolution
    for name, found in rounds.items():
        found["agreement"] = compare(answers[name], answers[first.name], resolution)
    return {"resolution": resolution, "programs": rounds}


def table(result: dict[str, Any], phrases: list[int]) -> str:
    """Milliseconds, and how far raw outputs are from the first row's."""
    ends = [f"{n} phrase{'s' * (n != 1)}" for n in phrases]
    headings = ["", *SHOWN, *ends, "class logits", "boxes px", "mean mask IoU"]
    lines = ["| " + " | ".join(headings) + " |", "| --- |" + " ---: |" * (len(headings) - 1)]
    for name, found in result["programs"].items():
        stages = dict(found["stages"])
        # An exported detector is one graph, which its stage "masks" holds.
        parts = ("fusion", "decoder", "masks")
        stages["detector"] = sum(stages.get(part, 0.0) for part in parts)
        cells = [f"{1000 * stages[stage]:,.1f}" for stage in SHOWN]
        cells += [f"{1000 * found['end_to_end'][n]:,.1f}" for n in phrases]
        a = found["agreement"]
        cells += [f"{a['class_logits']:.1e}", f"{a['boxes_px']:.2g}", f"{a['mask_iou_mean']:.3f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="which, separated by commas")
    parser.add_argument("--phrases", type=int, action="append", help="so many at once; may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-check", action="store_true", help="export without comparing with torch")
    given = parser.parse_args()
    names, phrases = given.programs.split(","), given.phrases or [1, 8]
    if unknown := set(names) - set(PROGRAMS):
        parser.error(f"unknown programs {', '.join(sorted(unknown))}; choose from {', '.join(PROGRAMS)}")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    given.folder.mkdir(parents=True, exist_ok=True)
    model = model_folder(given.model, given.folder)
    kinds = {"int8" if name.endswith("int8") else "none" for name in names if not name.startswith("torch")}
    exported = {kind: export(model, given.folder, kind, not given.no_check)[1] for kind in sorted(kinds)}
    result = {
        "model": given.model,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "repeats": given.repeats,
        "export_seconds": exported,
        **measure(names, model, given.folder, phrases, given.repeats),
    }
    write_text(given.folder / "speed.json", json.dumps(result, indent=2) + "\n")
    print(table(result, phrases))


if __name__ == "__main__":
    main()

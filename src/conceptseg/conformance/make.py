"""Write a conformance kit: tiny random weights in the official layout, and every stage's tensor.

KIT/kit.json, README.md         what every tensor means, how to check a port
KIT/inputs.safetensors          what every port is asked
KIT/stages.safetensors          what it must give
KIT/official/                   the weights as the official code saves them (torch), and a tokenizer
KIT/weights.safetensors         the same keys and values, for those without torch
KIT/conformance_kit.py          reads all that with numpy and safetensors, and compares
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.conformance import kit as reader
from conceptseg.conformance.stages import Questions, describe, processor_tensors, stage_tensors
from conceptseg.conformance.weights import CONTEXT, VOCABULARY, randomise, spread_logits, tiny_config
from conceptseg.errors import OptionError
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.presence_reading import PresenceReading
from conceptseg.segmenter import Segmenter

TextKind = Literal["clip", "mobileclip"]
STANDARD = "facebookresearch/sam3 at 99d02f2, before SAM 3.1"
PHRASES = ["red cup", "the second chair on the left side", "visual", "dog"]
IMAGE_OF = [0, 0, 1, 1]
# centre x, centre y, width, height, label; one reaches beyond the edge of its image
BOXES: list[list[tuple[float, float, float, float, int]]] = [
    [],
    [(0.3, 0.4, 0.2, 0.3, 1), (0.7, 0.6, 0.15, 0.25, 0)],
    [(0.95, 0.1, 0.3, 0.3, 1), (0.62, 0.35, 0.31, 0.22, 1)],
    [(0.25, 0.75, 0.4, 0.2, 0)],
]
LEAST_SCORE = 0.01  # smaller ones are all rounding
SIZES_HW = [(90, 130), (201, 77)]
INPUTS = {
    "image.0": ("(H, W, 3)", "RGB"),
    "image.1": ("(H, W, 3)", "RGB"),
    "token_ids": ("(B, T)", "phrases; 0 = padding"),
    "image_index": ("(B,)", "the image of each prompt"),
    "boxes_cxcywh": ("(B, M, 4)", "example boxes, 0..1; padding holds a box that must not matter"),
    "box_labels": ("(B, M)", "1 = like this, 0 = not like this"),
    "box_padding": ("(B, M)", "True = padding"),
}


def make_kit(folder: str | Path, text: TextKind = "clip", seed: int = 0) -> Path:
    """Write a kit.

    Args:
        folder: made when missing; files of the same names are replaced.
        text: kind of the text encoder: "clip", SAM 3's, or "mobileclip", of its students.
        seed: of the weights and the images.

    Returns:
        The folder.

    Raises:
        OptionError: an unknown text encoder.
    """
    if text not in get_args(TextKind):
        raise OptionError(f"unknown text encoder {text!r}; choose {', '.join(get_args(TextKind))}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(text)
    detector = build_detector(config.architecture).eval()
    randomise(detector, seed)
    tokenizer = Tokenizer(train_tokenizer(PHRASES, VOCABULARY), CONTEXT)
    questions = make_questions(tokenizer, seed)
    before = stage_tensors(detector, config, questions)
    spread_logits(detector, before["presence"], before["class"])
    with tempfile.TemporaryDirectory() as own:
        save_model_folder(own, detector, tokenizer, config)
        files = convert(open_checkpoint(Path(own)), folder / "official", "official").files
    weights = next(file for file in files if file.suffix == ".pt")

    # Everything below is of the weights as they will be read, not as they were made.
    detector, tokenizer, config = load_checkpoint(weights)
    tensors = stage_tensors(detector, config, questions)
    threshold = _threshold(tensors, config)
    tensors |= processor_tensors(Segmenter(detector, tokenizer, config), questions, threshold)
    stages = describe(config.architecture, tensors, len(questions.phrases))
    kept = {stage.name for stage in stages} | {stage.padding for stage in stages if stage.padding}

    _write_tensors(folder / "weights.safetensors", _without_rotary(weights))
    inputs = _inputs(questions)
    _write_tensors(folder / "inputs.safetensors", inputs)
    _write_tensors(folder / "stages.safetensors", {name: tensors[name] for name in sorted(kept)})
    about = {
        "format": reader.FORMAT,
        "version": reader.FORMAT_VERSION,
        "standard": STANDARD,
        "weights": weights.relative_to(folder).as_posix(),
        "phrases": questions.phrases,
        "threshold": threshold,
        "preprocessing": dataclasses.asdict(config.preprocessing),
        "architecture": config.architecture.to_dict(),
        "inputs": {
            name: {"shape": list(inputs[name].shape), "layout": layout, "meaning": meaning}
            for name, (layout, meaning) in INPUTS.items()
        },
        "stages": {stage.name: _entry(stage) for stage in stages},
    }
    write_text(folder / "kit.json", json.dumps(about, indent=2) + "\n")
    write_text(folder / "README.md", _readme(about, text))
    shutil.copyfile(reader.__file__, folder / "conformance_kit.py")
    return folder


def make_questions(tokenizer: Tokenizer, seed: int) -> Questions:
    """The prompts of every kit; words alone, words with boxes of both labels, and boxes alone."""
    random = np.random.default_rng(seed)
    filler = (0.5, 0.45, 0.6, 0.35, 1)
    most = max(map(len, BOXES))
    boxes = torch.tensor([[*row, *[filler] * (most - len(row))] for row in BOXES])
    return Questions(
        images=[random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES_HW],
        phrases=PHRASES,
        token_ids=tokenizer(PHRASES),
        image_index=torch.tensor(IMAGE_OF),
        boxes_cxcywh=boxes[..., :4],
        box_labels=boxes[..., 4].long(),
        box_padding=torch.tensor([[i >= len(row) for i in range(most)] for row in BOXES]),
    )


def _threshold(tensors: dict[str, Tensor], config: ModelConfig) -> float:
    """A number in a gap between scores, so that rounding keeps the same detections: of many prompts some."""
    scores = PresenceReading.of(config).scores(tensors["class"], tensors["presence"])  # (N, B)
    ordered = scores.flatten().sort().values
    wide = (ordered[1:] > 1.01 * ordered[:-1]) & (ordered[1:] > LEAST_SCORE)
    between = ((ordered[1:] + ordered[:-1]) / 2)[wide]  # (gaps,)
    kept = (scores[..., None] > between).sum(0)  # (B, gaps)
    partly, at_all = ((kept > 0) & (kept < len(scores))).sum(0), (kept > 0).sum(0)
    return float(between[(scores.shape[1] * partly + at_all).argmax()])


def _entry(stage: reader.Stage) -> dict[str, Any]:
    entry = dataclasses.asdict(stage)
    del entry["name"]
    return entry


def _inputs(questions: Questions) -> dict[str, Tensor]:
    images = {f"image.{i}": torch.from_numpy(image) for i, image in enumerate(questions.images)}
    return images | {name: getattr(questions, name) for name in INPUTS if name not in images}


def _without_rotary(weights: Path) -> dict[str, Tensor]:
    """What the official file holds, but for the complex tables, which are constants."""
    content = torch.load(weights, weights_only=True)
    content = content.get("model", content)
    return {name: value for name, value in content.items() if not value.is_complex()}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with replacing(path) as draft:
        save_file({name: value.clone().contiguous() for name, value in tensors.items()}, draft)


def _readme(about: dict[str, Any], text: str) -> str:
    def table(rows: dict[str, dict[str, Any]]) -> str:
        return "\n".join(
            f"| `{name}` | {row['layout']} | {'x'.join(map(str, row['shape']))} | {row['meaning']} |"
            for name, row in rows.items()
        )

    return README.format(
        standard=about["standard"],
        text="SAM 3's" if text == "clip" else "MobileCLIP's",
        weights=about["weights"],
        threshold=about["threshold"],
        phrases=", ".join(f'"{phrase}"' for phrase in about["phrases"]),
        inputs=table(about["inputs"]),
        stages=table(about["stages"]),
    )


README = """\
# Conformance kit

A tiny SAM 3 image model with random weights (text encoder: {text}), and every tensor that it computes on the
way from pixels to masks. A port of the model, in any language, is right when it computes the same. The
standard is {standard}.

1. Load the weights: `{weights}` (as the official code saves them) or `weights.safetensors` (the same keys,
   without the rotary tables, which are constants). `kit.json` has the sizes of the network under
   `architecture`.
2. Ask what `inputs.safetensors` holds. `official/tokenizer.json` makes the token ids of the phrases
   {phrases}; detections are those with a score above {threshold}.
3. Write what your port computes under the names below, as float32, into one `.safetensors` or `.npz` file, or
   as `NAME.npy` into a folder. Leave out what it cannot reach.
4. `python conformance_kit.py OUTPUTS` (needs numpy and safetensors) or
   `conceptseg conformance check KIT OUTPUTS` names the first stage that departs.

A stage may also be fed with the kit's own tensors, to look at it alone.

I images, B prompts, T text tokens, M boxes, D width of the detector, C width inside an encoder, HW image
tokens, N queries, K detections. With `text.padding` and `exemplar.padding` (B, S), True = padding, a port
says where its own padding stands; tokens are compared where they are none. The random weights make small what
layer norms read, so that a wrong epsilon shows, and put some presence logits beyond 10 and some class logits
beyond 12.

## Inputs

| name | layout | shape | meaning |
| --- | --- | --- | --- |
{inputs}

## Stages

| name | layout | shape | meaning |
| --- | --- | --- | --- |
{stages}
"""

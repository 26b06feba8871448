"""An exported model as a port: run a kit's inputs through its ONNX graphs, and write what they give.

    conceptseg conformance make kit
    conceptseg export onnx --model kit/official --out kit-onnx
    python examples/conformance_onnx.py kit kit-onnx port.safetensors
    conceptseg conformance check kit port.safetensors

Needs onnxruntime, numpy and safetensors. A port in another language does the same and calls the stages alike.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors.numpy import load_file, save_file


def run(graph: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(graph)
    asked = {given.name: inputs[given.name] for given in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, asked), strict=True))


def main(kit: Path, model: Path, out: Path) -> None:
    asked = load_file(kit / "inputs.safetensors")
    # The pixels are the kit's own: how a port resizes is for the port to show.
    pixels = load_file(kit / "stages.safetensors")["pixels"]
    levels = run(model / "vision.onnx", {"pixels": pixels})
    words = run(model / "text.onnx", asked)
    shown = run(model / "exemplar.onnx", levels | asked)
    prompt = {
        "prompt_tokens": np.concatenate((words["tokens"], shown["tokens"]), axis=1),
        "prompt_padding_mask": np.concatenate((words["padding_mask"], shown["padding_mask"]), axis=1),
    }
    found = run(model / "detector.onnx", levels | asked | prompt)
    stages = {f"neck.{name.removeprefix('level_')}": level for name, level in levels.items()}
    stages |= {
        "text": words["tokens"].swapaxes(0, 1),
        "text.padding": words["padding_mask"],
        "exemplar": shown["tokens"].swapaxes(0, 1),
        "exemplar.padding": shown["padding_mask"],
        "decoder.layers.2.hidden": found["hidden"].swapaxes(0, 1),
        "presence": found["presence_logits"],
        "class": found["class_logits"].T,
        "boxes": found["boxes_cxcywh"].swapaxes(0, 1),
        "masks": found["mask_logits"],
        "semantic": found["semantic_logits"],
    }
    save_file({name: np.ascontiguousarray(value) for name, value in stages.items()}, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

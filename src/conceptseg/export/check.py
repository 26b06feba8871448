"""Does an exported graph compute what the detector does? Asked of random inputs and of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conceptseg.errors import ExportError
from conceptseg.export.graphs import BOXES, IMAGES, PROMPTS, TOKENS, Graph
from conceptseg.images import load_image, model_input
from conceptseg.models.config import ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import GeometricPrompt, join_prompts
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.prompts import BoxPrompt, check_boxes
from conceptseg.runtime.onnx_detector import open_session

# Largest difference of any number, float32: so much, or this share of an output's largest number.
ALLOWED = 1e-3
ALLOWED_SHARE = 1e-4

# Sizes other than those of the trace: one of everything, and more of some.
RANDOM_SIZES = (
    {IMAGES: 1, PROMPTS: 1, BOXES: 1, TOKENS: 1},
    {IMAGES: 3, PROMPTS: 2, BOXES: 5, TOKENS: 9},
)
PHRASES = ("coin", "red circle")  # both are asked of the photograph
COIN_XYXY = (189.0, 170.0, 237.0, 217.0)  # a coin on it, and a piece of the ground
GROUND_XYXY = (20.0, 5.0, 60.0, 30.0)


@dataclass(frozen=True)
class Difference:
    """How far one output lies from torch's."""

    absolute: float  # largest over all numbers
    relative: float  # root of the mean square, as a share of that of the output itself
    largest: float  # number of the output itself, without its sign

    def bound(self, allowed: float) -> float:
        """The absolute difference that is let pass, where `allowed` is for outputs of ordinary size."""
        return max(allowed, ALLOWED_SHARE * self.largest)


def check_graph(graph: Graph, path: Path, real: list[Tensor], allowed: float = ALLOWED) -> dict[str, float]:
    """Compare a written graph with the module that it was made from.

    Args:
        graph: the module.
        path: of the ONNX file.
        real: arguments made from a photograph; random ones are made here.
        allowed: largest absolute difference; of large outputs `ALLOWED_SHARE` allows more.

    Returns:
        Output -> largest absolute difference.

    Raises:
        ExportError: an output drifts further than allowed, or is not a number where torch's is.
    """
    session, largest = open_session(path), dict.fromkeys(graph.outputs, 0.0)
    cases = [graph.examples(seed, **sizes) for seed, sizes in enumerate(RANDOM_SIZES)]
    for arguments in [*cases, real]:
        for name, difference in differences(graph, session, arguments).items():
            largest[name] = max(largest[name], difference.absolute)
            bound = difference.bound(allowed)
            if not difference.absolute <= bound:  # NaN fails the comparison too
                raise ExportError(
                    f"{path.name} does not compute what the model computes: {name} differs by "
                    f"{difference.absolute:.2g}, allowed are {bound:.2g}; nothing was exported"
                )
    return largest


def differences(graph: Graph, session: Any, arguments: list[Tensor]) -> dict[str, Difference]:
    """Run a graph and a session of its file on the same arguments: output -> how far apart."""
    feeds = {value.name: x.numpy() for value, x in zip(graph.inputs, arguments, strict=True)}
    theirs = [torch.from_numpy(array) for array in session.run(graph.outputs, feeds)]
    with torch.inference_mode():
        ours = list(graph(arguments))
    return {name: _difference(a, b) for name, a, b in zip(graph.outputs, ours, theirs, strict=True)}


def real_arguments(
    detector: Detector, tokenizer: Tokenizer, config: ModelConfig, resolution: int
) -> dict[str, list[Tensor]]:
    """What each graph is given when two phrases and two boxes, one negative, are asked of a photograph."""
    picture = load_image(Path(str(files("conceptseg"))) / "assets" / "coins.png")
    shown = check_boxes([COIN_XYXY, GROUND_XYXY], [1, 0], picture.size_hw)
    assert isinstance(shown, BoxPrompt)
    one = shown.to_model()
    assert one.boxes_cxcywh is not None and one.box_labels is not None
    # The second prompt has the first box only.
    geometry = GeometricPrompt(
        one.boxes_cxcywh.expand(2, -1, -1).contiguous(),
        one.box_labels.expand(2, -1).contiguous(),
        torch.tensor([[False, False], [False, True]]),
    )
    image_index = torch.zeros(2, dtype=torch.long)
    with torch.inference_mode():
        settings = config.preprocessing
        pixels = model_input(picture.pixels, resolution, settings.mean, settings.std)[None]
        ids = tokenizer(PHRASES)
        features = detector.encode_images(pixels)
        tokens = detector.encode_exemplars(features, geometry, image_index)
        prompt = join_prompts(detector.encode_text(ids), tokens)
    assert geometry.boxes_cxcywh is not None and geometry.box_labels is not None
    assert geometry.box_padding is not None
    boxes = [geometry.boxes_cxcywh, geometry.box_labels, geometry.box_padding]
    return {
        "vision": [pixels],
        "text": [ids],
        "exemplar": [features.levels[-1], image_index, *boxes],
        "detector": [*features.levels, image_index, prompt.tokens.transpose(0, 1), prompt.padding_mask],
    }


def _difference(ours: Tensor, theirs: Tensor) -> Difference:
    if ours.shape != theirs.shape:
        return Difference(float("inf"), float("inf"), 0.0)
    a, b = ours.double(), theirs.double()
    scale = a.square().mean().sqrt().clamp(min=1e-12)
    apart = a - b
    return Difference(
        float(apart.abs().max()),
        float(apart.square().mean().sqrt() / scale),
        float(a.nan_to_num(0, 0, 0).abs().max()),
    )

"""`Sam3Processor`: the stateful predictor of the official code, for those who come from there.

Same calls, same state keys, same numbers: scores are class x presence, results stay in query order, boxes are
not clamped, and `masks_logits` holds probabilities, as it does there. Departures: numpy images are (H, W, 3)
and their size is read as such; whatever `conceptseg.Segmenter` opens is taken; a model whose config
calibrates or ignores presence is read so; errors are `ConceptSegError`s.

Source: facebookresearch/sam3 `sam3/model/sam3_image_processor.py`; `add_point_prompt` from EfficientSAM3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.device import choose_device
from conceptseg.errors import ImageError, OptionError, PromptError, shown
from conceptseg.images import ImageInput, load_image
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.prompts import GeometricPrompt, PromptTokens
from conceptseg.postprocess import check_finite
from conceptseg.presence_reading import PresenceReading
from conceptseg.prompts import VISUAL, check_phrases, check_thresholds, is_number, plain
from conceptseg.segmenter import Segmenter

State: TypeAlias = "dict[str, Any]"

LANGUAGE_KEYS = ("language_features", "language_mask")
PROMPT_KEYS = ("geometric_prompt", "boxes", "masks", "masks_logits", "scores")


class Sam3Processor:
    """One image at a time, prompts added one by one; every call that changes the prompt runs the detector."""

    def __init__(
        self,
        segmenter: Segmenter,
        resolution: int | None = None,
        device: str | torch.device | None = None,
        confidence_threshold: float = 0.5,
    ) -> None:
        """Wrap a segmenter; arguments as in the official class.

        Args:
            segmenter: what `conceptseg.load` gives, in place of the official model.
            resolution: None: the segmenter's.
            device: None, or the device that the segmenter is on; kept so that official calls run unchanged.
            confidence_threshold: keep scores strictly above this.
        """
        if not isinstance(segmenter, Segmenter):
            raise OptionError(
                f"Sam3Processor takes what conceptseg.load() gives; got {type(segmenter).__name__}"
            )
        if device is not None and choose_device(device).type != segmenter.device.type:
            raise OptionError(f"the model is on {segmenter.device}; to have it on {device}, load it there")
        if resolution not in (None, segmenter.resolution):
            segmenter = Segmenter(
                segmenter.network,
                segmenter.tokenizer,
                segmenter.config,
                dtype=segmenter.dtype,
                resolution=resolution,
            )
        self.model = segmenter
        self.resolution = segmenter.resolution
        self.device = segmenter.device
        self.confidence_threshold = _threshold(confidence_threshold)

    def set_image(self, image: ImageInput, state: State | None = None) -> State:
        """Encode an image; every later prompt reuses it.

        Args:
            image: PIL image, (3, H, W) uint8 tensor, or anything else that `Segmenter.segment` opens.
            state: an earlier state: its text is forgotten, its boxes stay, as in the official code.

        Returns:
            The state: `original_height`, `original_width`, `backbone_out`.
        """
        loaded = load_image(image)
        state = _started(state)
        for key in ("original_heights", "original_widths"):
            state.pop(key, None)
        state["original_height"], state["original_width"] = loaded.size_hw
        state["backbone_out"] = {"image_features": self.model.encode_pixels([loaded])}
        return state

    def set_image_batch(self, images: Sequence[ImageInput], state: State | None = None) -> State:
        """Encode several images in one batch: `original_heights`, `original_widths` and `backbone_out`.

        As in the official class, prompts cannot be set on the result; `Segmenter.segment_many` does that.
        """
        if not isinstance(images, (list, tuple)) or not images:
            raise ImageError("set_image_batch takes a list of at least one image")
        loaded = [load_image(image, f"images[{i}]") for i, image in enumerate(images)]
        state = _started(state)
        for key in ("original_height", "original_width"):
            state.pop(key, None)
        state["original_heights"] = [image.size_hw[0] for image in loaded]
        state["original_widths"] = [image.size_hw[1] for image in loaded]
        state["backbone_out"] = {"image_features": self.model.encode_pixels(loaded)}
        return state

    def set_text_prompt(self, prompt: str, state: State) -> State:
        """Replace the phrase, keep the boxes, and run."""
        self._check_image(state, "set_text_prompt")
        if not isinstance(prompt, str):
            raise PromptError(f"prompt must be one phrase; got {type(prompt).__name__}")
        self._set_text(check_phrases(prompt)[0], state)
        return self._run(state)

    def add_geometric_prompt(self, box: Sequence[float], label: bool, state: State) -> State:
        """Add one box to those there are, and run; without a phrase, the phrase becomes "visual" and stays
        so.

        Args:
            box: centre x, centre y, width, height, normalised to 0..1.
            label: True = like this, False = not like this.
        """
        self._check_image(state, "add_geometric_prompt")
        row = _numbers(box, 4, "box", "centre x, centre y, width, height, normalised to 0..1")
        if row[2] <= 0 or row[3] <= 0 or max(row) > 2 or min(row) < -1:
            raise PromptError(
                f"box = {row} must be centre x, centre y, width, height in 0..1, with a size above 0"
            )
        geometry = self._geometry(state)
        geometry.boxes_cxcywh = _append(geometry.boxes_cxcywh, torch.tensor([[row]], device=self.device))
        geometry.box_labels = _append(
            geometry.box_labels, torch.tensor([[_label(label)]], device=self.device)
        )
        return self._run(state)

    def add_point_prompt(self, point: Sequence[float], label: bool, state: State) -> State:
        """Add one point in PIXELS (x, y) of the original image, and run; as in EfficientSAM3."""
        self._check_image(state, "add_point_prompt")
        x, y = _numbers(point, 2, "point", "x, y in pixels")
        width, height = state["original_width"], state["original_height"]
        if not (0 <= x <= width and 0 <= y <= height):
            raise PromptError(
                f"point = {[x, y]} lies outside this {width} x {height} image; give x, y in pixels"
            )
        geometry = self._geometry(state)
        row = torch.tensor([[[x / width, y / height]]], device=self.device)
        geometry.points_xy = _append(geometry.points_xy, row)
        geometry.point_labels = _append(
            geometry.point_labels, torch.tensor([[_label(label)]], device=self.device)
        )
        return self._run(state)

    def reset_all_prompts(self, state: State) -> None:
        """Forget phrase, boxes and results, in place; the encoded image stays."""
        for key in LANGUAGE_KEYS:
            state.get("backbone_out", {}).pop(key, None)
        for key in PROMPT_KEYS:
            state.pop(key, None)

    def set_confidence_threshold(self, threshold: float, state: State | None = None) -> State | None:
        """Change the threshold; a state that already has results is run again."""
        self.confidence_threshold = _threshold(threshold)
        if state is not None and "boxes" in state:
            return self._run(state)
        return state

    def _check_image(self, state: State, call: str) -> None:
        if not isinstance(state, dict) or "backbone_out" not in state:
            raise PromptError(f"call set_image before {call}, and give it the state that set_image returned")
        if "original_height" not in state:
            raise PromptError(f"{call} works on one image; for a batch use Segmenter.segment_many")

    def _set_text(self, phrase: str, state: State) -> None:
        words = self.model.text_tokens([phrase])
        state["backbone_out"].update(language_features=words.tokens, language_mask=words.padding_mask)
        state.setdefault("geometric_prompt", GeometricPrompt())

    def _geometry(self, state: State) -> GeometricPrompt:
        if "language_features" not in state["backbone_out"]:
            self._set_text(VISUAL, state)
        geometry: GeometricPrompt = state.setdefault("geometric_prompt", GeometricPrompt())
        return geometry

    @torch.inference_mode()
    def _run(self, state: State) -> State:
        backbone = state["backbone_out"]
        if "language_features" not in backbone:
            raise PromptError(
                "the state has a new image and no prompt for it yet; set a text or box prompt first"
            )
        height, width = state["original_height"], state["original_width"]
        network, features = self.model.network, backbone["image_features"]
        with self.model.inference():
            image_index = torch.zeros(1, dtype=torch.long, device=self.device)
            words = PromptTokens(backbone["language_features"], backbone["language_mask"])
            output = network.answer(features, words, state["geometric_prompt"], image_index)
            # Officially class x presence, which a repaired model may read otherwise.
            reading = PresenceReading.of(self.model.config)
            scores = reading.scores(output.class_logits[-1, :, 0], output.presence_logits[-1, 0])  # (N,)
            kept = scores > self.confidence_threshold
            boxes = cxcywh_to_xyxy(output.boxes_cxcywh[-1, kept, 0].float())
            logits = output.masks(0, kept.nonzero()[:, 0])[:, None].float()  # (kept, 1, h, w)
        for what, values in (("scores", scores), ("boxes", boxes), ("mask logits", logits)):
            check_finite(what, values)
        masks = _resize(logits, height, width).sigmoid()
        state["masks_logits"] = masks  # the official name for what are probabilities
        state["masks"] = masks > 0.5
        state["boxes"] = boxes * torch.tensor([width, height, width, height], device=boxes.device)
        state["scores"] = scores[kept]
        return state


def _resize(logits: Tensor, height: int, width: int) -> Tensor:
    if not len(logits):  # nothing was kept, and there is nothing to interpolate
        return logits.new_zeros(0, 1, height, width)
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def _append(rows: Tensor | None, row: Tensor) -> Tensor:
    """(1, M, ...) and (1, 1, ...) -> (1, M + 1, ...)."""
    return row if rows is None else torch.cat((rows, row), dim=1)


def _started(state: State | None) -> State:
    if not isinstance(state, (dict, type(None))):
        raise PromptError(f"state must be None, or what an earlier call returned; got {type(state).__name__}")
    return {} if state is None else state


def _threshold(value: float) -> float:
    return check_thresholds(value, 1)[0]


def _numbers(values: Sequence[float], count: int, name: str, meaning: str) -> list[float]:
    row = values.flatten().tolist() if isinstance(values, (np.ndarray, Tensor)) else values
    row = [plain(value) for value in row] if isinstance(row, (list, tuple)) else []
    if len(row) != count or not all(is_number(value) and math.isfinite(value) for value in row):
        raise PromptError(f"{name} = {shown(values)} must be {count} finite numbers: {meaning}")
    return [float(value) for value in row]


def _label(label: bool) -> int:
    if not isinstance(label, (bool, np.bool_)) and not (is_number(label) and label in (0, 1)):
        raise PromptError(f"label = {shown(label)}; True means like this, False means not like this")
    return int(label)

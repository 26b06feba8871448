"""What is asked: phrases, boxes, labels and thresholds, checked and brought into the model's units.

Boxes come in as x0, y0, x1, y1 in pixels of the image; the model sees them as centre and size in 0 to 1 of an
image stretched to a square, so they do not depend on its resolution. Each box is positive (1, "like this") or
negative (0, "not like this").

Decisions beyond the official code, which checks nothing: a box that reaches over the edge is clipped to the
image, and one that lies mostly outside is an error. Negative boxes alone are allowed, as in the official
code; they are of use together with a phrase or a positive example.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from conceptseg.errors import OptionError, PromptError, shown
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.models.text.tokenizer import clean

BoxesInput: TypeAlias = "Sequence[Sequence[float]] | npt.NDArray[Any] | Tensor"
LabelsInput: TypeAlias = "Sequence[int] | npt.NDArray[Any] | Tensor"

# The text that stands for "no phrase, look at the examples"; the released model is trained with it.
VISUAL = "visual"
LONGEST_PHRASE = 1000  # characters; the tokenizer cuts far earlier, but more than this is surely not a phrase
LEAST_INSIDE = 0.5  # share of a box's area that must lie on the image


@dataclass(frozen=True)
class BoxPrompt:
    """Example boxes on one image, checked and clipped to it."""

    boxes_xyxy: npt.NDArray[np.float32]  # (M, 4) pixels
    labels: npt.NDArray[np.int64]  # (M,), 1 positive, 0 negative
    size_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def to_model(self, device: torch.device | str = "cpu") -> GeometricPrompt:
        """The same boxes as a batch of one: (1, M, 4) normalised centre and size, (1, M) labels."""
        return GeometricPrompt(
            boxes_cxcywh=pixels_to_cxcywh(torch.from_numpy(self.boxes_xyxy), self.size_hw)[None].to(device),
            box_labels=torch.from_numpy(self.labels)[None].to(device),
        )


def join_boxes(prompts: Sequence[BoxPrompt]) -> BoxPrompt | None:
    """All boxes on one image, those of the same prompt once; None when there are none."""
    distinct = list({id(prompt): prompt for prompt in prompts}.values())
    if not distinct:
        return None
    return BoxPrompt(
        np.concatenate([prompt.boxes_xyxy for prompt in distinct]),
        np.concatenate([prompt.labels for prompt in distinct]),
        distinct[0].size_hw,
    )


def check_phrases(text: str | Sequence[str]) -> list[str]:
    """One phrase or several -> a list of them, without the white space around.

    Raises:
        PromptError: not text, empty, or longer than `LONGEST_PHRASE` characters.
    """
    if isinstance(text, str):
        return [_check_phrase(text, "text")]
    if not isinstance(text, (list, tuple)):
        raise PromptError(f"text must be a phrase or a list of phrases; got {type(text).__name__}")
    if not text:
        raise PromptError("text is an empty list; give at least one phrase")
    return [_check_phrase(phrase, f"text[{i}]") for i, phrase in enumerate(text)]


def check_boxes(
    boxes: BoxesInput | None, labels: LabelsInput | None, size_hw: tuple[int, int], name: str = "image"
) -> BoxPrompt | None:
    """Check example boxes against the image that they are drawn on.

    Args:
        boxes: (M, 4) x0, y0, x1, y1 in pixels; a single box is taken too; None or M = 0: no boxes.
        labels: (M,) of 1 and 0; None: all are 1.
        size_hw: of the image, in pixels.
        name: how messages call the image.

    Returns:
        None when there are no boxes.

    Raises:
        PromptError: names the box or label that is wrong, and what would be right.
    """
    rows, given = box_rows(boxes), _label_values(labels)
    if not rows:
        if given:
            raise PromptError(f"labels has {len(given)} entries, but there are no boxes")
        return None
    clipped = [_check_box(row, f"boxes[{i}]", size_hw, name) for i, row in enumerate(rows)]
    return BoxPrompt(
        boxes_xyxy=np.asarray(clipped, dtype=np.float32),
        labels=np.asarray(_check_labels(given, len(rows)), dtype=np.int64),
        size_hw=size_hw,
    )


def check_thresholds(threshold: float | Sequence[float], phrases: int) -> list[float]:
    """A score threshold, or one per phrase -> one per phrase.

    Raises:
        OptionError: not a number in [0, 1], or the wrong number of them.
    """
    values: Any = [threshold] * phrases if is_number(threshold) else threshold
    if isinstance(values, (np.ndarray, Tensor)):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise OptionError(
            f"threshold must be a number from 0 to 1, or a list with one per phrase; got {shown(threshold)}"
        )
    if len(values) != phrases:
        raise OptionError(
            f"threshold has {len(values)} values for {phrases} phrase{'s' * (phrases != 1)}; give one each"
        )
    for value in values:
        if not is_number(value) or not 0 <= value <= 1:  # NaN fails the comparison too
            raise OptionError(f"threshold {shown(value)} is not a number from 0 to 1")
    return [float(value) for value in values]


def _check_phrase(phrase: object, where: str) -> str:
    if not isinstance(phrase, str):
        raise PromptError(
            f"{where} must be a phrase such as 'yellow school bus'; got {type(phrase).__name__}"
        )
    if not clean(phrase):
        raise PromptError(f"{where} is empty; give a short noun phrase such as 'yellow school bus'")
    if len(phrase) > LONGEST_PHRASE:
        raise PromptError(
            f"{where} has {len(phrase):,} characters; a phrase is a few words naming one concept, "
            f"at most {LONGEST_PHRASE:,} characters"
        )
    if "\x00" in phrase or any("\ud800" <= character <= "\udfff" for character in phrase):
        raise PromptError(f"{where} holds a NUL or a broken (surrogate) character; give plain text")
    return phrase.strip()


def box_rows(boxes: BoxesInput | None) -> list[list[Any]]:
    """Boxes as a list of four values each, not yet looked at; a single box is taken too.

    Raises:
        PromptError: they are no such list.
    """
    if boxes is None:
        return []
    values = boxes.tolist() if isinstance(boxes, (np.ndarray, Tensor)) else boxes
    if not isinstance(values, (list, tuple)):
        raise PromptError(f"boxes must be a list of [x0, y0, x1, y1] in pixels; got {type(boxes).__name__}")
    rows = [row.tolist() if isinstance(row, (np.ndarray, Tensor)) else row for row in values]
    if len(rows) == 4 and all(is_number(value) for value in rows):
        return [rows]  # one box, not wrapped in a list
    for i, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise PromptError(f"boxes[{i}] = {shown(row)} is not four numbers x0, y0, x1, y1 in pixels")
    return [list(row) for row in rows]


def _check_box(row: list[Any], where: str, size_hw: tuple[int, int], name: str) -> list[float]:
    height, width = size_hw
    values = [plain(value) for value in row]
    box = "[" + ", ".join(f"{v:g}" if is_number(v) else shown(v, 20) for v in values) + "]"
    picture = f"this {width} x {height} image" if name == "image" else f"{name}, {width} x {height}"
    rule = f"boxes are x0, y0, x1, y1 in pixels of {picture}"
    if not all(is_number(value) for value in values):
        raise PromptError(f"{where} = {box} must be four numbers; {rule}")
    if not all(math.isfinite(value) for value in values):
        raise PromptError(f"{where} = {box} has a value that is not finite; {rule}")
    x0, y0, x1, y1 = (float(value) for value in values)
    if x1 <= x0:
        raise PromptError(f"{where} = {box} has x1 <= x0; {rule}")
    if y1 <= y0:
        raise PromptError(f"{where} = {box} has y1 <= y0; {rule}")
    if min(x0, y0) >= 0 and max(x1, y1) <= 1 and max(width, height) > 2:
        raise PromptError(f"{where} = {box} looks normalised to 0..1; {rule}")
    clipped = [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]
    inside = max(clipped[2] - clipped[0], 0) / (x1 - x0) * max(clipped[3] - clipped[1], 0) / (y1 - y0)
    if inside < LEAST_INSIDE:
        raise PromptError(f"{where} = {box} lies {'outside' if inside <= 0 else 'mostly outside'}; {rule}")
    return clipped


def _label_values(labels: LabelsInput | None) -> list[Any] | None:
    if labels is None:
        return None
    values: Any = labels.tolist() if isinstance(labels, (np.ndarray, Tensor)) else labels
    values = [values] if is_number(values) or isinstance(values, bool) else values
    if not isinstance(values, (list, tuple)):
        raise PromptError(f"labels must be a list with a 1 or 0 for each box; got {type(labels).__name__}")
    return list(values)


def _check_labels(values: list[Any] | None, count: int) -> list[int]:
    if values is None:
        return [1] * count
    if len(values) != count:
        raise PromptError(
            f"labels has {len(values)} entries for {count} box{'es' * (count != 1)}; give one each"
        )
    for i, value in enumerate(values):
        if not (is_number(value) or isinstance(value, (bool, np.bool_))) or value not in (0, 1):
            raise PromptError(f"labels[{i}] = {shown(value)}; 1 means like this, 0 means not like this")
    return [int(value) for value in values]


def plain(value: Any) -> Any:
    """One value as Python has it; a whole number that no float holds is infinite."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        value = value.item()
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.copysign(math.inf, 1 if value > 0 else -1)
    return value


def is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)

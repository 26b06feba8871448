"""Raw outputs -> one `Result`: score, keep, sort, drop repeats, bring masks to the size of the image.

As in the official code, a detection is kept when sigmoid(class) x sigmoid(presence) > threshold, strictly,
and masks are resized as logits. Departures: results are sorted by score, presence can be ignored or
calibrated, and a model's config can ask for repeats to be dropped and for masks to end near their boxes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from conceptseg.compact_masks import Window
from conceptseg.dedupe import keep_distinct
from conceptseg.errors import CheckpointError
from conceptseg.images import LoadedImage
from conceptseg.mask_resize import masks_at_image_size
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.detector import DetectorOutput, RawOutput
from conceptseg.prompts import BoxPrompt
from conceptseg.result import Result
from conceptseg.segment_options import ReadingOptions


def check_finite(what: str, values: Tensor) -> None:
    """Refuse to read what is no number: finite weights can be too large for the number type they run in.

    Raises:
        CheckpointError: names what is wrong.
    """
    if not bool(values.isfinite().all()):
        raise CheckpointError(
            f"the {what} of this model are not finite numbers: its weights are damaged, or too large for the "
            "number type it runs in; load it again, or with dtype='float32'"
        )


def read_result(
    output: DetectorOutput,
    pair: int,
    *,
    phrase: str,
    image: LoadedImage,
    threshold: float,
    options: ReadingOptions,
    examples: BoxPrompt | None = None,
) -> Result:
    """Read the answer to one (image, prompt) pair of a batch; masks are made for kept detections only.

    Raises:
        CheckpointError: an answer is no finite number.
    """
    height, width = image.size_hw
    class_logits = output.class_logits[-1, :, pair].float().cpu()  # (N,)
    presence_logit = output.presence_logits[-1, pair].float().cpu()  # ()
    check_finite("class logits", class_logits)
    check_finite("presence logits", presence_logit)
    scores = options.presence.scores(class_logits, presence_logit)

    order = torch.argsort(scores, descending=True, stable=True)
    kept = order[scores[order] > threshold]  # query numbers, best first
    mask_logits = output.masks(pair, kept)  # (kept, h, w)
    check_finite("mask logits", mask_logits)
    if options.dedupe != "none" and len(kept) > 1:
        distinct = keep_distinct(mask_logits, options.dedupe)
        kept, mask_logits = kept[distinct], mask_logits[distinct.to(mask_logits.device)]
    kept, mask_logits = kept[: options.max_instances], mask_logits[: options.max_instances]

    boxes = cxcywh_to_xyxy(output.boxes_cxcywh[-1, :, pair].float().cpu()[kept])  # (kept, 4) in [0, 1]
    check_finite("boxes", boxes)
    boxes_px = (boxes * torch.tensor([width, height, width, height])).numpy()
    margin = options.mask_margin
    windows = None if margin is None else windows_around(boxes_px, margin, (height, width))
    return Result(
        phrase=phrase,
        image_size=(height, width),
        masks=masks_at_image_size(mask_logits, (height, width), windows),
        boxes=boxes_px,
        scores=scores[kept].numpy(),
        class_scores=class_logits[kept].sigmoid().numpy(),
        presence=float(options.presence.probability(presence_logit)),
        presence_logit=float(presence_logit),
        image=image.pixels,
        path=image.path,
        examples=examples,
        raw=output.of(pair) if options.return_raw and isinstance(output, RawOutput) else None,
    )


def windows_around(
    boxes_xyxy: npt.NDArray[np.float32], margin: float, size_hw: tuple[int, int]
) -> list[Window]:
    """Where masks may be: near their boxes, as a small model's masks reach into alike neighbours.

    A pixel may be one of the mask when its centre is within the box grown by `margin` x its width to the left
    and right, and by `margin` x its height above and below.

    Args:
        boxes_xyxy: (N, 4) in pixels.
        margin: 0 or more.
        size_hw: height and width of the image in pixels.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]  # (N, 2)
    first = np.ceil(boxes_xyxy[:, :2] - margin * sides - 0.5).clip(0, size_hw[::-1])
    end = (np.floor(boxes_xyxy[:, 2:] + margin * sides - 0.5) + 1).clip(0, size_hw[::-1])
    rows = np.concatenate((first, np.maximum(first, end)), axis=1).astype(int).tolist()
    return [(left, top, right, bottom) for left, top, right, bottom in rows]

"""One batch of images -> what is kept of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from pycocotools import mask as coco_mask

from conceptseg.dedupe import SAME_OBJECT_IOU
from conceptseg.errors import ImageError
from conceptseg.formats import CocoDataset
from conceptseg.images import Pixels, load_image
from conceptseg.labelling.ledger import Outcome, Task
from conceptseg.labelling.settings import LabelSettings
from conceptseg.result import Result
from conceptseg.segmenter import Segmenter


def answer_batch(segmenter: Segmenter, settings: LabelSettings, batch: Sequence[Task]) -> list[Outcome]:
    """Read, hash and answer some images.

    An image that cannot be decoded is skipped; one whose file cannot be read, or at which the model stumbles,
    failed. Neither takes the others of its batch with it.
    """
    opened = [_open(task) for task in batch]
    readable = [(kept, pixels) for kept, pixels in opened if pixels is not None]
    try:
        answers = _ask(segmenter, settings, [pixels for _, pixels in readable]) if readable else []
    except Exception as error:  # out of memory, most of all; whatever it is, it is told of the image
        if len(batch) > 1:
            return [outcome for task in batch for outcome in answer_batch(segmenter, settings, [task])]
        words = " ".join(str(error).split())
        return [replace(opened[0][0], state="failed", error=f"{type(error).__name__}: {words}")]
    done = {
        kept.id: replace(kept, answer=_kept(settings, results))
        for (kept, _), results in zip(readable, answers, strict=True)
    }
    return [done.get(kept.id, kept) for kept, _ in opened]


def _open(task: Task) -> tuple[Outcome, Pixels | None]:
    try:
        with open(task.path, "rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read()
    except OSError as error:
        return Outcome(task.id, "failed", f"cannot be read: {error.strerror or error}"), None
    file = Outcome(
        task.id,
        "done",
        digest=hashlib.sha256(content).hexdigest(),
        size=status.st_size,
        changed=status.st_mtime_ns,
    )
    try:
        return file, load_image(content, task.path).pixels
    except ImageError as error:
        return replace(file, state="skipped", error=str(error).removeprefix(f"{task.path} ")), None


def _ask(segmenter: Segmenter, settings: LabelSettings, images: Sequence[Pixels]) -> list[list[Result]]:
    """For each image one result per concept, in order."""
    groups = settings.groups()
    found: list[dict[int, Result]] = [{} for _ in images]
    if len(groups) == 1:
        answers = segmenter.segment_many(images, batch_size=len(images), **_options(settings, groups[0]))
        for place, results in zip(found, answers, strict=True):
            place.update(zip(groups[0], cast("list[Result]", results), strict=True))
    else:  # the image is encoded once, whatever number of examples it is asked with
        for place, image in zip(found, images, strict=True):
            encoded = segmenter.encode(image)
            for group in groups:
                place.update(zip(group, segmenter.segment(encoded, **_options(settings, group)), strict=True))
    return [[place[number] for number in range(len(settings.concepts))] for place in found]


def _options(settings: LabelSettings, group: Sequence[int]) -> dict[str, Any]:
    concepts = [settings.concepts[number] for number in group]
    return {
        "text": [concept.asked for concept in concepts],
        "threshold": [concept.threshold for concept in concepts],
        "exemplar": concepts[0].exemplar,
        "presence": settings.presence,
        "dedupe": settings.dedupe,
        "max_instances": settings.max_instances,
    }


def _kept(settings: LabelSettings, results: Sequence[Result]) -> dict[str, Any]:
    """COCO content of one image; categories are the concepts, numbered from 1."""
    dataset = CocoDataset()
    results = one_phrase_per_object(results) if settings.one_phrase else results
    for concept, result in zip(settings.concepts, results, strict=True):
        named = replace(result, masks=result.compact_masks, phrase=concept.name, phrases=())
        dataset.add(named, "image", file_name="")
    return {name: dataset.content[name] for name in ("images", "annotations", "presence")}


def one_phrase_per_object(results: Sequence[Result]) -> list[Result]:
    """Where masks of different phrases overlap by more than half (intersection over union), keep the best.

    Args:
        results: on one image, one per phrase; of equal scores the earlier phrase wins.
    """
    order = sorted(
        (
            (-float(score), number, row)
            for number, result in enumerate(results)
            for row, score in enumerate(result.scores)
        )
    )
    masks = [result.compact_masks.rles() for result in results]
    kept: list[tuple[int, int]] = []
    for _, number, row in order:
        others = [masks[other][at] for other, at in kept if other != number]
        mask = masks[number][row]
        if not others or not (coco_mask.iou([mask], others, [0] * len(others)) > SAME_OBJECT_IOU).any():
            kept.append((number, row))
    return [
        result[np.array(sorted(row for other, row in kept if other == number), dtype=np.int64)]
        for number, result in enumerate(results)
    ]

"""Results in the forms that other tools read: COCO JSON and supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.compact_masks import CompactMasks
from conceptseg.errors import MissingDependencyError

if TYPE_CHECKING:
    import supervision

    from conceptseg.result import Result


class CocoDataset:
    """A COCO dataset that takes results one after the other; ids are given here and nowhere else, from 1.

    `content` holds `images`, `categories` (the phrases, in the order they came), `annotations` with `score`,
    and `presence`: for every image and phrase, found or not, how sure the model is that the concept is there.
    Of several phrases joined by `Result.concat` presence is no longer known one by one, and is left out.
    """

    def __init__(self) -> None:
        self.content: dict[str, Any] = {"images": [], "categories": [], "annotations": [], "presence": []}
        self._image_ids: dict[object, int] = {}
        self._category_ids: dict[str, int] = {}

    def add(self, result: Result, key: object, **image: str) -> None:
        """Args:
        result: masks are kept as run lengths.
        key: results of the same key share an image entry.
        image: `file_name` and what else the image entry says.
        """
        height, width = result.image_size
        if key not in self._image_ids:
            self._image_ids[key] = len(self._image_ids) + 1
            entry = {"id": self._image_ids[key], **image, "width": width, "height": height}
            self.content["images"].append(entry)
        image_id, masks = self._image_ids[key], result.compact_masks
        if set(result.phrases) <= {result.phrase}:
            ids = {"image_id": image_id, "category_id": self._category(result.phrase)}
            self.content["presence"].append({**ids, "presence": round(result.presence, 6)})
        regions = zip(
            result.phrases,
            clipped_boxes(result).tolist(),
            result.scores,
            masks.areas(),
            masks.rles(),
            strict=True,
        )
        for phrase, (x0, y0, x1, y1), score, area, rle in regions:
            self.content["annotations"].append(
                {
                    "id": len(self.content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": self._category(phrase),
                    "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": int(area),
                    "segmentation": {**rle, "counts": rle["counts"].decode("ascii")},
                    "iscrowd": 0,
                    "score": round(float(score), 6),
                }
            )

    def _category(self, phrase: str) -> int:
        if phrase not in self._category_ids:
            self._category_ids[phrase] = len(self._category_ids) + 1
            self.content["categories"].append({"id": self._category_ids[phrase], "name": phrase})
        return self._category_ids[phrase]


def clipped_boxes(result: Result) -> NDArray[np.float64]:
    """(N, 4) pixels; tools refuse boxes that reach over the edge, or cut the masks by them."""
    height, width = result.image_size
    return result.boxes.astype(np.float64).clip(0, (width, height, width, height))


def coco_dataset(results: Sequence[Result]) -> dict[str, Any]:
    """The content of a `CocoDataset` of results on any number of images, in any number of phrases.

    Args:
        results: those on the same picture (the same file, or the same pixels in memory) share an image entry.
    """
    dataset = CocoDataset()
    for result, name in zip(results, _file_names(results), strict=True):
        key = result.path or id(result.image if result.image is not None else result)
        dataset.add(result, key, file_name=name)
    return dataset.content


def supervision_detections(result: Result, compact: bool) -> supervision.Detections:
    """One result as `supervision.Detections`; see `Result.to_supervision`."""
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingDependencyError("to_supervision() needs supervision: pip install supervision") from error
    names = list(dict.fromkeys(result.phrases))
    return Detections(
        xyxy=result.boxes.copy(),
        mask=_supervision_masks(result.compact_masks) if compact else result.masks,
        confidence=result.scores.copy(),
        class_id=np.array([names.index(phrase) for phrase in result.phrases], dtype=int),
        data={"class_name": np.array(result.phrases, dtype=str)},
    )


def _supervision_masks(masks: CompactMasks) -> supervision.CompactMask:
    try:
        from supervision import CompactMask
    except ImportError as error:
        raise MissingDependencyError(
            "to_supervision(compact=True) needs supervision 0.28 or newer: pip install -U supervision"
        ) from error
    nothing = CompactMask.from_dense(np.zeros((0, *masks.size_hw), bool), np.zeros((0, 4)), masks.size_hw)
    parts = [nothing]
    for number, mask in enumerate(masks):  # whole only one at a time
        last_pixel = np.array([masks.window(number)]) - (0, 0, 1, 1)  # where supervision ends a box
        parts.append(CompactMask.from_dense(mask[None], last_pixel, masks.size_hw))
    return CompactMask.merge(parts)


def _file_names(results: Sequence[Result]) -> list[str]:
    """Bare file names, as in a COCO folder; whole paths when two different files share a name."""
    paths = {result.path for result in results if result.path is not None}
    bare = len({path.name for path in paths}) == len(paths)
    names = []
    for result in results:
        path = result.path
        names.append("image" if path is None else path.name if bare else path.as_posix())
    return names

"""Results in the forms that other tools read: COCO JSON and supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from conceptseg.errors import MissingDependencyError
from conceptseg.result import Result

if TYPE_CHECKING:
    import supervision


def coco_dataset(results: Sequence[Result]) -> dict[str, Any]:
    """COCO dataset of results on any number of images, in any number of phrases.

    Args:
        results: those on the same picture (the same file, or the same pixels in memory) share an image entry.

    Returns:
        `images`, `categories` (the phrases, in the order they came), `annotations` with `score`, and
        `presence`: for every image and phrase, found or not, how sure the model is that the concept is there.
        Ids start at 1.
    """
    image_ids: dict[object, int] = {}
    category_ids: dict[str, int] = {}
    dataset: dict[str, Any] = {"images": [], "categories": [], "annotations": [], "presence": []}
    names = _file_names(results)
    for result, name in zip(results, names, strict=True):
        key = result.path or id(result.image if result.image is not None else result)
        if key not in image_ids:
            image_ids[key] = len(image_ids) + 1
            height, width = result.image_size
            dataset["images"].append(
                {"id": image_ids[key], "file_name": name, "width": width, "height": height}
            )
        if result.phrase not in category_ids:
            category_ids[result.phrase] = len(category_ids) + 1
            dataset["categories"].append({"id": category_ids[result.phrase], "name": result.phrase})
        ids = {"image_id": image_ids[key], "category_id": category_ids[result.phrase]}
        dataset["presence"].append({**ids, "presence": round(result.presence, 6)})
        for mask, box, score in zip(result.masks, result.boxes, result.scores, strict=True):
            x0, y0, x1, y1 = (float(value) for value in box)
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    **ids,
                    "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": int(mask.sum()),
                    "segmentation": compressed_rle(mask),
                    "iscrowd": 0,
                    "score": round(float(score), 6),
                }
            )
    return dataset


def compressed_rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """(H, W) -> {"size": [H, W], "counts": text}, COCO's compressed run lengths, ready for JSON."""
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def supervision_detections(result: Result) -> supervision.Detections:
    """One result as `supervision.Detections`; see `Result.to_supervision`."""
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingDependencyError("to_supervision() needs supervision: pip install supervision") from error
    return Detections(
        xyxy=result.boxes.copy(),
        mask=result.masks,
        confidence=result.scores.copy(),
        class_id=np.zeros(len(result), dtype=int),
        data={"class_name": np.full(len(result), result.phrase)},
    )


def _file_names(results: Sequence[Result]) -> list[str]:
    """Bare file names, as in a COCO folder; whole paths when two different files share a name."""
    paths = {result.path for result in results if result.path is not None}
    bare = len({path.name for path in paths}) == len(paths)
    names = []
    for result in results:
        path = result.path
        names.append("image" if path is None else path.name if bare else path.as_posix())
    return names

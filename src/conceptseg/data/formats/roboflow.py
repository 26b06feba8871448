"""What Roboflow's exports do differently from plain COCO."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

ANNOTATIONS = "_annotations.coco.json"  # in each of train, valid and test, beside the images
_COPY = re.compile(r"\.rf\.[0-9a-zA-Z]+(?=\.\w+$)")


def grouping_ids(categories: Sequence[dict[str, Any]], used_ids: Collection[Any]) -> set[Any]:
    """Ids of categories that only group others.

    An export begins with a category of the project's name; all classes give it as their supercategory, and
    nothing is annotated with it. As a phrase it would be absent from every image.
    """
    parents = {it.get("supercategory") for it in categories if it.get("supercategory") != it.get("name")}
    return {it["id"] for it in categories if it.get("name") in parents and it["id"] not in used_ids}


def source_name(file_name: str) -> str:
    """The picture that a file was made from: all augmented copies `a_jpg.rf.0f3c.jpg` share `a_jpg.jpg`."""
    return _COPY.sub("", file_name)

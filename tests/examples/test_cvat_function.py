"""The function for CVAT keeps to the interface that its SDK documents and checks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from conceptseg.segmenter import Segmenter

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="cvat-sdk is not installed")

FILE = Path(__file__).parents[2] / "examples" / "cvat_function.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cvat_function", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Context(cvataa.DetectionFunctionContext):  # type: ignore[misc, name-defined]
    frame_name = "photo.png"
    conf_threshold: float | None = None
    conv_mask_to_poly = False


def test_labels_are_phrases_and_shapes_are_what_segment_finds(
    example: ModuleType, tiny_model_folder: Path, tiny_segmenter: Segmenter, picture: np.ndarray
) -> None:
    from cvat_sdk.masks import decode_mask

    function = example.create("coin, red circle,coin", model=str(tiny_model_folder), threshold=0.1)
    assert [(label.id, label.name, str(label.type)) for label in function.spec.labels] == [
        (0, "coin", "mask"),
        (1, "red circle", "mask"),
    ]
    results = tiny_segmenter.segment(picture, text=["coin", "red circle"], threshold=0.1)
    shapes = function.detect(Context(), Image.fromarray(picture))
    assert [shape.label_id for shape in shapes] == [n for n, result in enumerate(results) for _ in result]
    assert shapes
    for shape, mask in zip(shapes, np.concatenate([result.masks for result in results]), strict=True):
        decoded = decode_mask(shape.points, image_width=90, image_height=60)
        assert (decoded != mask).mean() < 0.01
        assert shape.frame == 0 and not hasattr(shape, "id") and not hasattr(shape, "source")
    json.dumps([shape.to_dict() for shape in shapes], default=str)


def test_a_threshold_and_polygons_are_given_by_cvat(
    example: ModuleType, tiny_segmenter: Segmenter, picture: np.ndarray
) -> None:
    function = example.ConceptFunction(tiny_segmenter, ["coin"], threshold=0.1)
    context = Context()
    context.conv_mask_to_poly = True
    shapes = function.detect(context, Image.fromarray(picture))
    assert shapes and {str(shape.type) for shape in shapes} == {"polygon"}
    assert all(len(shape.points) >= 6 and len(shape.points) % 2 == 0 for shape in shapes)
    context.conf_threshold = 0.99
    assert function.detect(context, Image.fromarray(picture)) == []

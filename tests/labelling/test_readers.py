"""Other tools read the COCO files of a labelling by their own code.

FiftyOne in a process of its own, and without its database, which a dataset needs but the importer does not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from conceptseg.labelling import LabelSettings, label
from conceptseg.segmenter import Segmenter

READ = """
import json, sys
import fiftyone.types as types

photos, labels = sys.argv[1:]
importer = types.COCODetectionDataset().get_dataset_importer_cls()
found = {}
with importer(data_path=photos, labels_path=labels, label_types=["segmentations"]) as images:
    for path, _, objects in images:
        found[path] = [
            [it.label, it.confidence, it.bounding_box, it.mask.tolist()]
            for it in (objects.detections if objects else [])
        ]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("fiftyone") is None, reason="FiftyOne is not installed")
def test_fiftyone_reads_masks_scores_and_names(
    photos: Path, tmp_path: Path, settings: LabelSettings, tiny_segmenter: Segmenter
) -> None:
    label([photos], settings, tmp_path / "out", segmenter=tiny_segmenter)
    labels = tmp_path / "out" / "coco" / "00000.json"
    done = subprocess.run(
        [sys.executable, "-c", READ, str(photos), str(labels)],
        env={**os.environ, "FIFTYONE_DISABLE_SERVICES": "1", "FIFTYONE_DO_NOT_TRACK": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, coco = json.loads(done.stdout.splitlines()[-1]), json.loads(labels.read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    objects = 0
    for image in coco["images"]:
        ours = [it for it in coco["annotations"] if it["image_id"] == image["id"]]
        theirs = found[str(photos / image["file_name"])]
        for it, (name, score, box, mask) in zip(ours, theirs, strict=True):
            assert (name, score) == (names[it["category_id"]], it["score"])
            x, y, width, height = it["bbox"]
            np.testing.assert_allclose(box, [x / 48, y / 32, width / 48, height / 32])
            whole = coco_mask.decode(it["segmentation"])
            inside = whole[round(y) : round(y + height), round(x) : round(x + width)]
            assert min(x, y) >= 0  # a mask that is cut by a box over the edge is empty
            np.testing.assert_array_equal(np.array(mask).reshape(inside.shape), inside)
            objects += 1
    assert objects


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_reads_masks_and_names(
    photos: Path, tmp_path: Path, settings: LabelSettings, tiny_segmenter: Segmenter
) -> None:
    supervision = pytest.importorskip("supervision", minversion="0.31")
    label([photos], settings, tmp_path / "out", segmenter=tiny_segmenter)
    labels = tmp_path / "out" / "coco" / "00000.json"
    coco = json.loads(labels.read_text())
    dataset = supervision.DetectionDataset.from_coco(str(photos), str(labels), force_masks=True)
    assert dataset.classes == ["red circle", "coin"] and len(dataset) == len(coco["images"])
    ids = {str(photos / image["file_name"]): image["id"] for image in coco["images"]}
    for path, _, found in dataset:
        ours = [it for it in coco["annotations"] if it["image_id"] == ids[path]]
        assert found.class_id.tolist() == [it["category_id"] - 1 for it in ours]
        for mask, it in zip(found.mask, ours, strict=True):
            np.testing.assert_array_equal(mask, coco_mask.decode(it["segmentation"]))

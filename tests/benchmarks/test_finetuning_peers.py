"""The peers of fine-tuning: what they are shown, and how they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.data.formats.datasets import annotation, coco, image, rle, write_coco, write_picture

pytest.importorskip("torchvision")

from benchmarks import finetuning_peers as peers  # noqa: E402  # imports torchvision
from conceptseg.data.concept_data import open_dataset  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two splits of one picture each, 40 x 30 pixels, with one object: x 4 to 12, y 6 to 18."""
    for split in ("train", "valid"):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        write_picture(folder / "1.png", 40, 30)
        found = annotation(1, bbox=[4, 6, 8, 12], segmentation=rle(30, 40, 4, 6, 12, 18))
        write_coco(folder, coco([image(1)], [found]))
    return tmp_path / "data"


def test_flips_keep_boxes_and_masks_on_their_objects(data: Path) -> None:
    dataset = open_dataset(data, "train")
    examples = peers.Examples(dataset, dataset.phrases, masks=True, seed=0)
    batches, seen = examples.batches(1), set()
    for _ in range(20):
        (pixels,), (target,) = next(batches)
        assert pixels.shape == (3, 30, 40)
        (box,), (mask,) = target["boxes"].int().tolist(), target["masks"].bool()
        rows, columns = mask.nonzero(as_tuple=True)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box
        seen.add(tuple(box))
    assert seen == {(4, 6, 12, 18), (28, 6, 36, 18), (4, 12, 12, 24), (28, 12, 36, 24)}


def test_images_and_anchors_are_as_large_as_the_objects_ask_for(data: Path) -> None:
    sizes = peers.Sizes.of(open_dataset(data, "train"))
    # A median object of 9.8 pixels on a side of 30 would be 20 pixels on 61; the least side is 256.
    assert sizes.side == 256
    smallest, largest = sizes.anchors[0][0], sizes.anchors[-1][1]
    assert smallest == largest == round(256 * (8 * 12) ** 0.5 / 30)
    assert [len(level) for level in sizes.anchors] == [2, 2, 2, 2]


@pytest.mark.slow
def test_a_peer_trains_for_its_budget_and_is_evaluated_like_any_model(data: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    options = ["--minutes", "0.02", "--batch", "1", "--size", "64", "--out", str(tmp_path / "peer")]
    peers.main([str(data), *options])
    torch.set_num_threads(threads)
    report = json.loads((tmp_path / "peer" / "peer.json").read_text())
    assert report["detector"] == "Mask R-CNN" and report["training"]["steps"] >= 1
    assert report["metrics"]["counts"]["images"] == 1
    assert set(report["metrics"]) >= {"masks", "boxes", "presence"}
    assert (tmp_path / "peer" / "peer.md").is_file()

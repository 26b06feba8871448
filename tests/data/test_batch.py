"""A batch in parts is the batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conceptseg.data.batch import Batch, Question, RegionPhrases
from conceptseg.data.collate import PreparedImage, collate_images
from conceptseg.errors import ConfigError
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Five pairs on four images; the second one has its example box on another image."""
    images = []
    for number in range(4):
        boxes = torch.tensor([[1.0, 1.0, 3.0, 3.0], [4.0, 4.0, 6.0, 7.0]])
        masks = torch.rand(2, 4, 4) > 0.5
        pixels = torch.full((3, 8, 8), number, dtype=torch.uint8)
        images.append(PreparedImage(pixels, boxes, (8, 8), masks, torch.tensor([True, number > 1])))
    questions = [
        Question(0, "cat", [], [], 0, [0, 1]),
        Question(1, "visual", [(1.0, 1.0, 3.0, 3.0)], [1], 3, [1]),
        Question(1, "dog", [], [], 1, []),
        Question(2, "cat", [(0.0, 0.0, 2.0, 2.0), (1.0, 1.0, 3.0, 3.0)], [1, 0], 2, [0]),
        Question(3, "bird", [], [], 3, []),
    ]
    return collate_images(images, questions, Tokenizer(train_tokenizer(["cat", "dog", "visual"], 300), 8))


def test_parts_hold_the_same_pairs_and_only_the_images_they_need(batch: Batch) -> None:
    parts = batch.split(2)
    assert [part.phrases for part in parts] == [["cat", "visual", "dog"], ["cat", "bird"]]
    assert [part.pixels[:, 0, 0, 0].tolist() for part in parts] == [[0, 1, 3], [2, 3]]
    for part, first in zip(parts, (0, 3), strict=True):
        rows = slice(first, first + len(part.phrases))
        for index in ("image_index", "exemplar_index"):
            shown = part.pixels[getattr(part, index), 0, 0, 0]
            assert torch.equal(shown, batch.pixels[getattr(batch, index)[rows], 0, 0, 0])
        assert torch.equal(part.targets.boxes_cxcywh, batch.targets.boxes_cxcywh[rows])
        assert torch.equal(part.targets.has_mask, batch.targets.has_mask[rows])
        assert part.geometry.box_labels is not None and batch.geometry.box_labels is not None
        assert torch.equal(part.geometry.box_labels, batch.geometry.box_labels[rows])


def test_one_part_is_the_batch_itself_and_no_part_is_empty(batch: Batch) -> None:
    assert batch.split(1) == [batch]
    assert [len(part.phrases) for part in batch.split(9)] == [1] * 5
    assert batch.examples == 5


def test_regions_are_not_split(batch: Batch) -> None:
    """They are compared across the whole batch."""
    nothing = torch.zeros(0)
    regions = RegionPhrases(nothing, nothing, nothing, nothing, nothing, nothing)
    with pytest.raises(ConfigError, match="accumulate works with questions alone"):
        dataclasses.replace(batch, regions=regions).split(2)

"""Batches depend on the seed and the place in the order alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.data.batch import Batch
from conceptseg.data.composites import CompositeConfig
from conceptseg.data.concept_batches import BatchConfig, ConceptBatches
from conceptseg.data.concept_data import open_dataset
from conceptseg.data.step_batches import batches_from
from conceptseg.data.view import AugmentConfig
from conceptseg.errors import ConfigError


@pytest.fixture
def make(tiles: Path, model: Path) -> Any:
    tokenizer = load_model_folder(model)[1]

    def make(images: int = 2, folder: Path = tiles, **changes: Any) -> ConceptBatches:
        config = BatchConfig(images=images, workers=0, **changes.pop("config", {}))
        said = {"steps": 6, "resolution": 64, "turns": True, "seed": 3, **changes}
        return ConceptBatches(open_dataset(folder, "train"), tokenizer, config, **said)

    return make


def tensors(batch: Batch) -> Iterator[tuple[str, Any]]:
    yield from {**vars(batch), **vars(batch.geometry), **vars(batch.targets)}.items()


def assert_same(one: Batch, other: Batch) -> None:
    for (name, a), (_, b) in zip(tensors(one), tensors(other), strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), name
    assert one.phrases == other.phrases


def test_a_batch_is_the_same_whenever_it_is_asked_for(make: Any) -> None:
    data = make()
    later = list(batches_from(data, 4))
    assert len(later) == 2
    assert_same(later[0], make()[4])
    assert make(seed=4)[4].phrases != later[0].phrases or not torch.equal(
        make(seed=4)[4].pixels, later[0].pixels
    )


def test_two_processes_see_what_one_sees_with_twice_the_batch(make: Any) -> None:
    halves = [make(images=2, process=process, processes=2)[1] for process in range(2)]
    whole = make(images=4)[1]
    assert torch.equal(torch.cat([half.pixels for half in halves]), whole.pixels)
    assert [phrase for half in halves for phrase in half.phrases] == whole.phrases


def test_every_image_is_seen_once_per_epoch(make: Any) -> None:
    plain = {"config": {"augment": AugmentConfig(False, False, 0.0, 1.0, 0.0, 0.0)}, "turns": False}
    data = make(**plain)  # six pictures: three steps are an epoch
    epochs = [
        {p.numpy().tobytes() for step in range(3 * e, 3 * e + 3) for p in data[step].pixels} for e in (0, 1)
    ]
    assert [len(epoch) for epoch in epochs] == [6, 6]


def test_steps_through_windows_are_smaller_in_all_processes_alike(make: Any) -> None:
    half = {"config": {"augment": AugmentConfig(windows=0.5)}, "window_resolution": 32, "processes": 2}
    sizes = [
        [data[step].pixels.shape[-1] for step in range(6)]
        for data in (make(process=0, **half), make(process=1, **half))
    ]
    assert sizes[0] == sizes[1] and set(sizes[0]) == {32, 64}


def test_boxes_only_data_gives_targets_without_masks(make: Any, boxed: Path) -> None:
    data = make(folder=boxed, config={"questions": 2})
    batches = [data[step] for step in range(6)]
    assert any(batch.targets.valid.any() for batch in batches)
    assert not any(batch.targets.has_mask.any() for batch in batches)


def test_an_odd_number_of_images_is_refused() -> None:
    """They come in pairs, for boxes on the image beside."""
    with pytest.raises(ConfigError, match="batch.images is 3; give an even number"):
        BatchConfig(images=3)
    assert dataclasses.replace(BatchConfig(), images=4).images == 4


def test_composites_show_more_objects_and_are_the_same_whenever_asked_for(make: Any) -> None:
    more = {"composites": CompositeConfig(), "composite_share": 1.0, "smallest_cutout": 12}
    plain, pasted = make(), make(config=more)
    assert_same(pasted[2], make(config=more)[2])
    counts = [sum(int(data[step].targets.valid.sum()) for step in range(6)) for data in (plain, pasted)]
    assert counts[1] > counts[0]

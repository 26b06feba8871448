"""Objects cut out of photographs and pasted on other pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conceptseg.data.annotated_view import view_image
from conceptseg.data.composites import Composite, CompositeConfig, compose, pasted_on
from conceptseg.data.concept_data import open_dataset
from conceptseg.data.cutouts import Cutouts
from conceptseg.data.view import View
from conceptseg.errors import ConfigError, DataError
from tests.tiles import COLORS, HEIGHT, NAMES, WIDTH

PLAIN = CompositeConfig(light=0.0, blur=0.0, turn=0.0)
SIDE = 96


@pytest.fixture(scope="module")
def cutouts(tiles: Path) -> Cutouts:
    return Cutouts([open_dataset(tiles, "train")], smallest=12)


def background(value: int = 0) -> npt.NDArray[np.uint8]:
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def made(cutouts: Cutouts, seed: int, config: CompositeConfig = PLAIN) -> Composite:
    return compose(
        cutouts, Composite.empty(background()), ["red tile", "leaf"], config, np.random.default_rng(seed)
    )


def test_a_mask_lies_where_its_object_was_pasted(cutouts: Cutouts) -> None:
    colors = {NAMES[number]: np.array(color) for number, color in COLORS.items()}
    for seed in range(10):
        composite = made(cutouts, seed)
        for name, mask in zip(composite.names, composite.masks, strict=True):
            inside = composite.pixels[mask].astype(int)
            # The edge is blended, and a tile may show a piece of one that lay under it when it was cut out.
            close = (np.abs(inside - colors[name]).max(1) < 60).mean()
            assert close > 0.7, (seed, name)


def test_every_pixel_belongs_to_at_most_one_object(cutouts: Cutouts) -> None:
    for seed in range(20):
        masks = made(cutouts, seed).masks
        assert masks.sum(0).max() <= 1


def test_of_every_object_enough_stays_in_sight(cutouts: Cutouts) -> None:
    """The ground is one object over the whole picture: what is pasted may cover half of it at most."""
    everything = np.ones((SIDE, SIDE), np.bool_)
    config = dataclasses.replace(PLAIN, objects=30, largest=0.6)
    for seed in range(10):
        wall = Composite(background(90), ["wall"], everything[None])
        composite = compose(cutouts, wall, ["leaf"], config, np.random.default_rng(seed))
        assert composite.names[0] == "wall" and len(composite.names) > 1
        assert composite.masks[0].mean() >= 0.5


def test_the_same_generator_gives_the_same_picture(cutouts: Cutouts) -> None:
    one, other = made(cutouts, 5, CompositeConfig()), made(cutouts, 5, CompositeConfig())
    assert np.array_equal(one.pixels, other.pixels) and one.names == other.names
    assert not np.array_equal(one.pixels, made(cutouts, 6, CompositeConfig()).pixels)


def test_the_ground_is_not_changed(cutouts: Cutouts) -> None:
    ground = background(7)
    masks = np.ones((1, SIDE, SIDE), np.bool_)
    compose(cutouts, Composite(ground, ["wall"], masks), ["leaf"], PLAIN, np.random.default_rng(0))
    assert (ground == 7).all() and masks.all()


def test_a_view_gets_more_objects_and_the_old_ones_lose_what_lies_under_them(
    cutouts: Cutouts, tiles: Path
) -> None:
    dataset = open_dataset(tiles, "train")
    rng = np.random.default_rng(1)
    image = dataset[1]
    view = view_image(image, View((0, 0, WIDTH, HEIGHT)), SIDE, SIDE // 2, 0.0, dataset.phrases, rng)
    before = len(view.prepared.boxes_xyxy)
    more = pasted_on(view, cutouts, dataclasses.replace(PLAIN, objects=20), rng)
    prepared = more.prepared
    count = len(prepared.boxes_xyxy)
    assert count > before and sorted(i for its in more.phrases.values() for i in its) == list(range(count))
    assert (prepared.masks[:before] & ~view.prepared.masks).float().mean() < 0.01
    assert prepared.masks[:before].sum() < view.prepared.masks.sum()
    assert prepared.masks.shape[1:] == (SIDE // 2, SIDE // 2) and prepared.has_mask.all()
    assert not set(more.absent) & set(more.phrases)


def test_names_that_nobody_knows_of_are_not_pasted(cutouts: Cutouts, tiles: Path) -> None:
    dataset = open_dataset(tiles, "train")
    rng = np.random.default_rng(1)
    view = view_image(dataset[1], View((0, 0, WIDTH, HEIGHT)), SIDE, 48, 0.0, dataset.phrases, rng)
    view.phrases.clear()
    view.absent.clear()
    assert pasted_on(view, cutouts, PLAIN, rng) is view


def test_objects_that_the_edge_cuts_off_are_not_cut_out(cutouts: Cutouts, tiles: Path) -> None:
    dataset = open_dataset(tiles, "train")
    whole = [
        it
        for image in dataset
        for objects in image.phrases.values()
        for it in objects
        if it.box_xyxy[0] >= 1 and it.box_xyxy[1] >= 1 and it.box_xyxy[2] <= WIDTH - 1
    ]
    assert len(cutouts) == len(whole) > 0
    cutout = cutouts.draw("leaf", np.random.default_rng(0))
    assert cutout.mask.any(0).all() and cutout.mask.shape[0] <= HEIGHT


def test_data_with_boxes_only_has_nothing_to_cut_out(boxed: Path) -> None:
    with pytest.raises(DataError, match="no object has a mask"):
        Cutouts([open_dataset(boxed, "train")], smallest=12)


@pytest.mark.parametrize(
    "wrong", [{"kinds": 0}, {"smallest": 0.7}, {"light": 1.0}, {"visible": -0.1}, {"turn": -1.0}]
)
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        CompositeConfig(**wrong)  # type: ignore[arg-type]

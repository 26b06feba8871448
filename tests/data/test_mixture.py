"""Batches of scenes, photographs and composites together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.data.mixture.batches import MixedBatches
from conceptseg.data.mixture.config import CompositeSource, MixtureConfig, PhotographSource, SceneSource
from conceptseg.data.mixture.datasets import mixture_vocabulary
from conceptseg.data.mixture.questions import PhotographQuestions
from conceptseg.data.names import Names
from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scene_batches import SceneStage
from conceptseg.errors import ConfigError, DataError
from tests.data.test_concept_batches import assert_same
from tests.data.test_concept_questions import seen

STAGE = SceneStage(steps=50, resolution=64, render_size=64, images=6, questions=2, naming=2, mask_size=32)
Make = Callable[..., MixedBatches]


@pytest.fixture(scope="module")
def make(tiles: Path, boxed: Path, model: Path) -> Make:
    tokenizer = load_model_folder(model)[1]
    every = (
        SceneSource(share=0.3),
        PhotographSource(path=str(tiles), share=0.3, everything=True),
        PhotographSource(path=str(boxed), share=0.2),
        CompositeSource(
            share=0.2, cutouts=(str(tiles),), backgrounds=str(tiles / "train"), smallest_cutout=12
        ),
    )

    def make(sources: tuple[Any, ...] = every, seed: int = 3, **more: Any) -> MixedBatches:
        config = MixtureConfig(
            stages=(STAGE,), workers=0, sources=sources, questions=more.pop("questions", QuestionConfig())
        )
        return MixedBatches(config, tokenizer, seed, **more)

    return make


def test_a_batch_is_the_same_whenever_it_is_asked_for(make: Make) -> None:
    data = make()
    assert_same(data[7], make()[7])
    regions, again = data[7].regions, make()[7].regions
    assert regions is not None and again is not None
    assert torch.equal(regions.truth, again.truth) and torch.equal(regions.token_ids, again.token_ids)
    assert not torch.equal(make(seed=4)[7].pixels, data[7].pixels)


def test_two_processes_see_different_images(make: Make) -> None:
    one, other = (make(process=process, processes=2)[0] for process in range(2))
    assert not torch.equal(one.pixels, other.pixels)


def test_every_source_is_seen_as_often_as_its_share_says(make: Make) -> None:
    shares = make()._shares
    assert shares.tolist() == pytest.approx([0.3, 0.3, 0.2, 0.2])
    data = make()
    drawn = [0] * 4

    class Counted:
        def __init__(self, place: int) -> None:
            self.place, self.source = place, data_sources[place]

        def pair(self, *arguments: Any) -> Any:
            drawn[self.place] += 1
            return self.source.pair(*arguments)

    data_sources = list(data.sources)
    data.sources = [Counted(place) for place in range(4)]
    for step in range(40):
        data[step]
    assert [count / sum(drawn) for count in drawn] == pytest.approx([0.3, 0.3, 0.2, 0.2], abs=0.12)


def test_objects_with_a_box_only_have_no_mask_to_learn(make: Make, boxed: Path) -> None:
    questions = QuestionConfig(1, 0, 0, 0, 0)
    batch = make(sources=(PhotographSource(path=str(boxed)),), questions=questions)[0]
    assert batch.targets.valid.any()
    assert not batch.targets.has_mask.any() and batch.targets.masks is None


def test_an_absent_phrase_names_nothing_and_is_never_one_that_is_there(make: Make, tiles: Path) -> None:
    """Of tiles and leaves, an image that shows both is asked for neither as absent."""
    questions = QuestionConfig(0, 1, 0, 0, 0)
    data = make(sources=(PhotographSource(path=str(tiles), everything=True),), questions=questions)
    asked = set()
    for step in range(20):
        batch = data[step]
        assert not batch.targets.present.any()
        for phrase, image in zip(batch.phrases, batch.image_index, strict=True):
            asked.add(phrase)
            red = (batch.pixels[image][0] > 180) & (batch.pixels[image][1] < 90)
            assert not ("tile" in phrase and "red" in phrase and red.float().mean() > 0.05)
    assert "leaf" in asked or "leaves" in asked or "leafs" in asked
    assert asked & set(data.foreign)  # words that nothing shows are asked too


def test_what_the_data_says_is_absent_may_be_asked_most() -> None:
    far = [f"thing {number}" for number in range(50)]
    view = seen({"leaf": [0]}, absent=(*far, "hat"))
    view.told = ["hat"]

    def share(told: float) -> float:
        config = MixtureConfig(stages=(STAGE,), foreign_share=0.0, kin_share=0.0, told_share=told)
        drawn = PhotographQuestions(config, Names(), ["leaf", "hat"], []).questioner.absent
        rng = np.random.default_rng(0)
        return sum(drawn.draw_for(view, rng) == "hat" for _ in range(300)) / 300

    assert share(0.0) < 0.1
    assert 0.4 < share(0.5) < 0.65


def test_wider_words_are_asked_where_everything_is_labelled_and_not_elsewhere(
    make: Make, tiles: Path, tmp_path: Path
) -> None:
    table = tmp_path / "names.yaml"
    table.write_text("broader: {plant: [leaf]}\n")
    tokenizer = make().tokenizer

    def phrases(narrow: bool) -> set[str]:
        config = MixtureConfig(
            stages=(STAGE,),
            workers=0,
            names=str(table),
            sources=(PhotographSource(path=str(tiles), narrow=narrow),),
            questions=QuestionConfig(1, 0, 0, 0, 0),
        )
        data = MixedBatches(config, tokenizer, 1)
        return {phrase for step in range(8) for phrase in data[step].phrases}

    assert {"plant", "plants", "a plant"} & phrases(narrow=False)
    assert not {"plant", "plants", "a plant"} & phrases(narrow=True)


def test_regions_say_what_is_true_of_each_object(make: Make) -> None:
    data = make()
    for step in range(6):
        batch = data[step]
        regions = batch.regions
        assert regions is not None
        phrases, objects = len(regions.token_ids), len(regions.masks)
        assert regions.truth.shape == (phrases + len(regions.examples), objects)
        assert regions.image_index.max() < len(batch.pixels)
        own = regions.truth[phrases:][range(len(regions.examples)), regions.examples]
        assert (own == 1).all()  # an example is of its own kind


def test_a_composite_never_asks_for_what_something_else_in_it_may_be_called(
    make: Make, tiles: Path, tmp_path: Path
) -> None:
    table = tmp_path / "names.yaml"
    table.write_text("unclear: [[red tile, leaf]]\n")
    Image.new("RGB", (80, 60), (90, 90, 90)).save(tmp_path / "wall.png")
    source = CompositeSource(cutouts=(str(tiles),), backgrounds=str(tmp_path), smallest_cutout=12)
    config = MixtureConfig(
        stages=(STAGE,),
        workers=0,
        names=str(table),
        sources=(source,),
        questions=QuestionConfig(1, 0, 0, 0, 0),
    )
    data = MixedBatches(config, make().tokenizer, 1)
    both = 0
    for number in range(40):
        pair = data.sources[0].pair(number, STAGE, 1.0, np.random.default_rng(number))
        assert pair.names is not None
        for question in pair.questions:
            shown = {name for names in pair.names[question.image] for name in names}
            both += len(shown) == 2
            assert not (question.objects and len(shown) == 2)
    assert both


def test_the_vocabulary_has_synonyms_and_plurals(make: Make, tiles: Path) -> None:
    config = MixtureConfig(sources=(PhotographSource(path=str(tiles)),))
    names = Names(synonyms={"leaf": ("leaf", "foliage")}, plurals={"leaf": "leaves"})
    assert {"leaf", "leaves", "foliage", "red tile", "red tiles"} <= set(mixture_vocabulary(config, names))


def test_held_out_images_are_others(make: Make, tiles: Path) -> None:
    source = PhotographSource(path=str(tiles))
    trained, held_out = make(sources=(source,)), make(sources=(source,), held_out=True)
    assert {image.path.name for image in trained.sources[0].dataset} != {  # type: ignore[attr-defined]
        image.path.name
        for image in held_out.sources[0].dataset  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: PhotographSource(), "needs a path"),
        (lambda: CompositeSource(), "need cutouts"),
        (lambda: MixtureConfig(sources=(SceneSource(share=0.0),)), "must not all be zero"),
        (lambda: MixtureConfig(sources=(SceneSource(share=-1.0), SceneSource(share=2.0))), "0 or more"),
        (lambda: MixtureConfig(foreign_share=1.5), "foreign_share"),
    ],
)
def test_impossible_mixtures_are_refused(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrong()


def test_a_source_that_is_not_there_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        make(sources=(PhotographSource(path=str(tmp_path / "nowhere")),))

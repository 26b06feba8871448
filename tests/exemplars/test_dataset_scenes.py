"""Labelled images as scenes: what an example box means there, and what nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.question_config import QuestionConfig
from conceptseg.exemplars.dataset_scenes import DatasetQuestions, scene_of_image
from conceptseg.exemplars.pool import PoolBatches, PoolConfig, draw_pool
from tests.train.tiny import tiny_tokenizer

RED, GREEN = (4.0, 4.0, 20.0, 20.0), (30.0, 30.0, 50.0, 50.0)


@pytest.fixture
def labelled(tmp_path: Path):
    """Makes an image of 64 x 64 pixels with these phrases."""

    def make(phrases: dict[str, list[tuple[float, ...]]], **known) -> ConceptImage:
        path = tmp_path / "image.png"
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
        objects = {name: [ConceptObject(box) for box in boxes] for name, boxes in phrases.items()}
        return ConceptImage(path, 64, 64, objects, **known)

    return make


def test_a_box_means_the_narrowest_phrase_of_its_object(labelled) -> None:
    scene = scene_of_image(labelled({"apple": [RED, GREEN], "red apple": [RED]}), 64)
    assert scene.phrases == {"apple": [0, 1], "red apple": [0]}
    assert scene.families == {"red apple": [0]} and len(scene.objects) == 2


def test_what_the_labels_leave_open_is_not_asked_across_images(labelled) -> None:
    here = {"dog": [RED], "cat": [GREEN], "bird": [(40.0, 4.0, 60.0, 20.0)]}
    beside = scene_of_image(labelled(here), 64)
    # Of cats some are not annotated, of birds nothing is said; dogs are known not to be there.
    image = scene_of_image(
        labelled({"cat": [RED]}, absent_phrases=("dog",), incomplete_phrases=frozenset({"cat"})), 64
    )
    maker = DatasetQuestions(QuestionConfig(0, 0, 0, 0, other_image=1.0))
    asked = [maker.ask([image, beside], 0, np.random.default_rng(seed)) for seed in range(40)]
    across = [question for question in asked if question.exemplar_image == 1]
    assert across and all(question.objects == [] for question in across)
    assert {beside.objects[0].box_xyxy} == {
        min((it.box_xyxy for it in beside.objects), key=lambda box: abs(box[0] - question.boxes_xyxy[0][0]))
        for question in across
    }


def test_a_dataset_with_fewer_pairs_than_a_step_takes_gives_all_it_has(tmp_path) -> None:
    for number in range(3):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    annotations = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(3)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(annotations))
    config = PoolConfig(scenes=16, dataset=str(tmp_path), resolution=64, render_size=64)
    scenes = draw_pool(config, "held_out")  # the only split there is
    assert len(scenes) == 2
    batch = PoolBatches(config, scenes, tiny_tokenizer(), seed=0, steps=1)[0]
    assert batch.pixels.shape[0] == 2 and len(batch.phrases) == 4

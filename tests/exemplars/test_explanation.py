"""Pictures of what an example says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import conceptseg as cs
from conceptseg.errors import OptionError, PromptError
from conceptseg.exemplars.explanation import explain
from conceptseg.models.build import build_detector
from conceptseg.models.config import AdaptiveConfig, AnyExemplarConfig, BridgeConfig, ExemplarConfig
from tests.conftest import TINY, make_tiny_segmenter

BOXES = [[10, 10, 40, 40], [50, 20, 80, 50]]
SIZES = {"layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.0}


def segmenter_with(exemplar: AnyExemplarConfig) -> cs.Segmenter:
    made = make_tiny_segmenter()
    config = dataclasses.replace(made.config, architecture=dataclasses.replace(TINY, exemplar=exemplar))
    torch.manual_seed(0)
    return cs.Segmenter(build_detector(config.architecture), made.tokenizer, config)


def test_similarity_is_the_cosine_with_every_image_token(tiny_segmenter, picture) -> None:
    told = explain(tiny_segmenter, picture, BOXES, [1, 0])
    encoded = tiny_segmenter.encode(picture)
    token = tiny_segmenter.exemplar(encoded, BOXES, [1, 0]).tokens[0]
    level = encoded.features.levels[-1][0]
    expected = torch.nn.functional.cosine_similarity(token[:, None, None], level, dim=0)
    np.testing.assert_allclose(told.token_similarity[0], expected.numpy(), atol=1e-5)
    assert told.feature_similarity.shape == (2, *level.shape[1:])
    assert told.token_similarity.shape == (3, *level.shape[1:])  # the closing token has no box
    assert told.gate is None and told.context is None and told.encoder == "roi"


def test_a_place_is_most_like_what_lies_under_a_box_on_it(tiny_segmenter) -> None:
    picture = np.full((96, 96, 3), 30, np.uint8)
    picture[32:64, 32:64] = (250, 40, 40)
    told = explain(tiny_segmenter, picture, [[32, 32, 64, 64]])
    side = told.feature_similarity.shape[1]
    y, x = np.unravel_index(told.feature_similarity[0].argmax(), (side, side))
    assert side // 3 - 1 <= y <= 2 * side // 3 and side // 3 - 1 <= x <= 2 * side // 3


def test_tokens_of_a_concept_come_after_the_boxes(tiny_segmenter, picture) -> None:
    kind = tiny_segmenter.exemplar(picture[::-1].copy(), BOXES[:1])
    told = explain(tiny_segmenter, picture, BOXES, exemplar=kind)
    assert len(told.token_similarity) == 3 + 2 and len(told.feature_similarity) == 2
    alone = explain(tiny_segmenter, picture, exemplar=kind)
    np.testing.assert_allclose(alone.token_similarity, told.token_similarity[3:], atol=1e-6)


@pytest.mark.parametrize(
    ("config", "parts"),
    (
        (ExemplarConfig(**SIZES), set()),
        (BridgeConfig(**SIZES), {"gate", "level_weights"}),
        (AdaptiveConfig(**SIZES), {"context", "branch_weights"}),
        (AdaptiveConfig(**SIZES, context=False), {"branch_weights"}),
    ),
)
def test_every_kind_shows_the_parts_it_has(config, parts, picture, tmp_path) -> None:
    segmenter = segmenter_with(config)
    kind = segmenter.exemplar(picture[::-1].copy(), BOXES[:1])
    told = explain(segmenter, picture, BOXES, [1, 0], kind)
    named = {"gate", "level_weights", "context", "branch_weights"}
    assert {name for name in named if getattr(told, name) is not None} == parts
    with Image.open(told.save(tmp_path / "figures" / "told.png")) as drawn:
        assert drawn.size[0] > 600


def test_nothing_to_explain_is_an_error(tiny_segmenter, picture, tmp_path) -> None:
    with pytest.raises(PromptError, match="no example to explain"):
        explain(tiny_segmenter, picture)
    with pytest.raises(OptionError, match="must end in .png"):
        explain(tiny_segmenter, picture, BOXES).save(tmp_path / "told.json")

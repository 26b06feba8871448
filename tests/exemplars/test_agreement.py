"""The arithmetic of the gap, on vectors whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conceptseg.exemplars.agreement import agreement, channel_statistics, retrieval, stays_put

EYE = np.eye(4)
CONCEPTS = ["coin", "coin", "leaf", "leaf"]
IMAGES = np.array([0, 1, 0, 1])


def test_tokens_that_equal_the_features_are_all_found_first() -> None:
    found = retrieval(EYE, EYE, CONCEPTS, IMAGES)
    assert found["cosine_own"] == 1 and found["cosine_other"] == 0
    assert found["median_rank"] == 1 and found["recall_1"] == 1 and found["examples"] == 4


def test_a_rank_counts_what_is_nearer() -> None:
    swapped = EYE[[1, 0, 2, 3]]
    found = retrieval(EYE, swapped, CONCEPTS, IMAGES)
    assert found["recall_1"] == 0.5 and found["recall_5"] == 1
    assert found["median_rank"] == 1.5  # two are first, two second
    assert found["cosine_same"] == 0.5


def test_concepts_are_told_apart_by_what_other_images_show_of_them() -> None:
    of_concept = np.array([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]])
    assert retrieval(of_concept, of_concept, CONCEPTS, IMAGES)["concept_auroc"] == 1
    assert retrieval(of_concept, -of_concept, CONCEPTS, IMAGES)["concept_auroc"] == 0
    alike = np.ones((4, 2))
    assert retrieval(alike, alike, CONCEPTS, IMAGES)["concept_auroc"] == 0.5
    one = retrieval(of_concept, of_concept, ["coin"] * 4, IMAGES)
    assert math.isnan(one["concept_auroc"]) and math.isnan(one["cosine_other"])


def test_a_constant_offset_hides_agreement_until_means_are_taken_off() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6))
    found = agreement(features + 50, features, ["x"] * 40, np.arange(40))
    assert found["raw"]["recall_1"] < 0.3 and found["centred"]["recall_1"] == 1


def test_a_rotation_hides_agreement_until_a_linear_map_undoes_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    found = agreement(features @ rotation, features, ["x"] * 80, np.repeat(np.arange(40), 2))
    assert found["centred"]["recall_1"] < 0.4 and found["linear"]["recall_1"] > 0.95
    assert found["linear"]["examples"] == 40  # the other half was fitted on
    assert agreement(EYE, EYE, CONCEPTS, IMAGES)["linear"] == {}


def test_images_of_one_theme_are_judged_together() -> None:
    # Four themes of two scenes; each concept is in both scenes of its theme and nowhere else.
    features = np.random.default_rng(0).normal(size=(4, 6))[[0, 0, 1, 1, 2, 2, 3, 3]]
    concepts = [name for name in "abcd" for _ in range(2)]
    found = agreement(features, features, concepts, np.arange(8))
    assert found["linear"]["examples"] == 4 and 0 <= found["linear"]["concept_auroc"] <= 1


def test_channel_statistics_by_hand() -> None:
    tokens = np.array([[0.0, 4.0], [2.0, 8.0]])  # means 1 and 6, variances 1 and 4
    cells = np.array([[0.0, 0.0], [2.0, 2.0]])  # means 1 and 1, variances 1 and 1
    said = channel_statistics(tokens, cells)
    assert said["mean_offset"] == pytest.approx(math.sqrt((0 + 25) / 2))
    assert said["log_variance_ratio"] == pytest.approx(math.log(4) / 2)
    assert said["token_mean"] == [1, 6] and said["image_variance"] == [1, 1]


def test_what_did_not_change_stays_put() -> None:
    same = stays_put(EYE[[2, 0]], EYE, np.array([2, 0]))
    assert same["cosine"] == pytest.approx(1) and same["recall_1"] == 1 and same["examples"] == 2
    moved = stays_put(EYE[[1]], EYE, np.array([2]))
    assert moved["cosine"] < 0 and moved["recall_1"] == 0 and moved["median_rank"] == 2
    assert math.isnan(stays_put(np.zeros((0, 4)), EYE, np.zeros(0, dtype=np.int64))["cosine"])

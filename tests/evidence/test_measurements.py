"""What each claim's measurement reports, on models built so that the answer is known."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.evidence import component_costs, encoder_conflict, example_robustness, presence_shift
from conceptseg.evidence.component_costs import ComponentCosts
from conceptseg.evidence.encoder_conflict import EncoderConflict, with_fresh_exemplars
from conceptseg.evidence.example_changes import (
    ExampleContext,
    ExampleScale,
    covered_elsewhere,
    other_surroundings,
    scaled_views,
)
from conceptseg.evidence.example_robustness import ExampleRobustness, cgf1_of, f1_of, homography
from conceptseg.evidence.measurement import Measurement, Options, Row
from conceptseg.evidence.pictures import DrawnScenes
from conceptseg.evidence.presence_shift import SHIFTS, PresenceShift, needed_shift
from conceptseg.evidence.prompt_swap import PromptSwap, swap
from conceptseg.evidence.token_statistics import TokenStatistics, mean_offset, told_apart, variance_ratio
from conceptseg.exemplars.conflict import TwoGradients
from conceptseg.exemplars.gap_pictures import ShownObject
from conceptseg.exemplars.pool import PoolBatches, PoolConfig
from conceptseg.exemplars.tokens import BoxTokens
from conceptseg.segmenter import Segmenter
from conceptseg.study.table import Table, pack

SCENES = DrawnScenes(4, 96)
LARGE = DrawnScenes(4, 224)  # with objects that can be halved


@pytest.fixture
def model(tiny_segmenter: Segmenter) -> Segmenter:
    """A copy, to be spoilt."""
    detector = copy.deepcopy(tiny_segmenter.detector)
    return Segmenter(detector, tiny_segmenter.tokenizer, tiny_segmenter.config)


def measured(
    measurement: Measurement, segmenter: Segmenter, count: int = 2, scenes: DrawnScenes = SCENES
) -> Table:
    rows = measurement.measure(segmenter, scenes, range(count), Options(fresh_seeds=(0,)))
    return Table({}, measurement.finish(rows))


def lines_of(measurement: Measurement, rows: list[Row]) -> dict[str, Any]:
    return {line.name: line for line in measurement.lines(Table({}, rows))}


# F2


def three_phrases(scene: Scene) -> list[str]:
    return [next(iter(scene.phrases)), *scene.absent_phrases[:2]]


def test_f2_a_decoder_that_ignores_the_prompt_shows_no_effect_of_a_swap_there(model: Segmenter) -> None:
    scene = SCENES.scene(0)
    plain = swap(model, scene, three_phrases(scene))
    assert plain["presence pap"] != plain["presence ppp"] and abs(plain["no swap"]) < 1e-5
    for layer in model.detector.decoder.layers:
        layer.prompt_attention = layer.prompt_norm = None  # type: ignore[assignment]
    deaf = swap(model, scene, three_phrases(scene))
    assert deaf["presence pap"] == deaf["presence ppp"] and deaf["presence apa"] == deaf["presence aaa"]
    assert deaf["presence app"] == deaf["presence aaa"] != deaf["presence ppp"]


def test_f2_a_fusion_encoder_that_ignores_the_prompt_leaves_the_memory_alone(model: Segmenter) -> None:
    for layer in model.detector.fusion_encoder.layers:
        for parameter in layer.prompt_attention.parameters():  # type: ignore[union-attr]
            parameter.data.zero_()
    scene = SCENES.scene(0)
    row = swap(model, scene, three_phrases(scene))
    assert row["memory pa"] == row["memory ax"] == 0 and row["presence app"] == row["presence ppp"]
    assert row["score ppa"] != row["score ppp"]  # the scores read the prompt as before


def f2_rows(fusion: float, decoder: float, control: float) -> list[Row]:
    """A network whose presence falls by so much for either place."""
    rows = []
    for scene in range(30):
        noise = 0.01 * (scene % 3 - 1)
        loss = {"p": 0.0, "a": 1.0, "x": 1.0 + control}
        row: Row = {"scene": scene, "memory pa": 0.5, "memory ax": 0.1, "no swap": 0.0}
        for f in "pax":
            for d in "pax":
                row[f"presence {f}{d}p"] = 4 - fusion * loss[f] - decoder * loss[d] + noise * (f != d)
                for s in "pax":
                    row[f"presence {f}{d}{s}"] = row[f"presence {f}{d}p"]
                    row[f"score {f}{d}{s}"] = float(expit(row[f"presence {f}{d}p"]))
        rows.append(row)
    return rows


def test_f2_the_verdict_follows_the_places_that_count() -> None:
    measurement = PromptSwap()
    for fusion, decoder, word in ((3.0, 1.0, "confirmed"), (3.0, 0.0, "depends"), (0.0, 0.0, "refuted")):
        lines = lines_of(measurement, f2_rows(fusion, decoder, control=0.1))
        assert measurement.verdict(lines).word == word
        change = lines["present: swapped at fusion, presence logit"].estimate
        assert change.value == pytest.approx(-fusion, abs=0.02) and change.examples == 30


# F4


@contextmanager
def answers(model: Segmenter, class_logits: Tensor, presence: float, boxes_cxcywh: Tensor) -> Iterator[None]:
    """A network with a presence head whose answers are these, whatever is asked."""
    head = model.detector.decoder.presence_head

    def answer(*_: Any) -> Any:
        logit = head(torch.zeros(1, model.config.architecture.width)) * 0 + presence
        for hook in head._forward_hooks.values():  # of the shift
            logit = hook(head, (), logit)
        return SimpleNamespace(
            class_logits=class_logits[None, :, None],
            presence_logits=logit.reshape(1, 1),
            boxes_cxcywh=boxes_cxcywh[None, :, None],
        )

    model.detector.answer = answer  # type: ignore[method-assign]
    yield


def test_f4_lost_detections_are_those_that_the_product_puts_below_the_threshold(model: Segmenter) -> None:
    scene = SCENES.scene(0)
    phrase = max(scene.phrases, key=lambda name: len(scene.phrases[name]))
    members = scene.phrases[phrase][:2]
    scene = dataclasses.replace(scene, phrases={phrase: members})
    x = torch.tensor([scene.objects[i].box_xyxy for i in members]) / 96
    boxes = torch.cat(((x[:, :2] + x[:, 2:]) / 2, x[:, 2:] - x[:, :2]), dim=1)
    logits = torch.tensor([3.0, 0.3][: len(members)])
    with answers(model, logits, 2.0, boxes):
        row = presence_shift.shift_presence(model, None, scene, phrase)  # type: ignore[arg-type]
    assert row["present"] and row["right"] == pytest.approx(logits.tolist())
    expected = [sum(float(expit(c) * expit(2.0 + s)) > 0.5 for c in row["right"]) for s in SHIFTS]
    assert row["found_shifted"] == expected and expected[0] >= 1 and expected[-1] == 0
    assert needed_shift(3.0, 2.0) == pytest.approx(np.log(1 / (2 * expit(3.0) - 1)) - 2.0)


def test_f4_shifts_change_the_real_presence_head_and_leave_it_as_it_was(tiny_segmenter: Segmenter) -> None:
    head = tiny_segmenter.detector.decoder.presence_head
    x = torch.randn(3, tiny_segmenter.config.architecture.width)
    with torch.no_grad():
        before = head(x)
        with presence_shift.shifted_presence(tiny_segmenter.detector.decoder, -5.0):
            torch.testing.assert_close(head(x), before - 5.0)
        assert torch.equal(head(x), before)


def f4_rows(presence: float) -> list[Row]:
    rows = []
    for scene in range(40):
        z, c = presence + 0.1 * (scene % 5), 0.5 + 0.1 * (scene % 3)
        row: Row = {"scene": scene, "present": True, "presence_logit": z, "right": [c, c], "detections": 2}
        row["found"] = 2 * int(expit(c) * expit(z) > 0.5)
        row["found_shifted"] = [2 * int(expit(c) * expit(z + s) > 0.5) for s in SHIFTS]
        row["detections_shifted"] = row["found_shifted"]
        absent = {**row, "present": False, "right": [], "found": 0, "found_shifted": [0] * len(SHIFTS)}
        rows += [row, absent]
    return rows


def test_f4_the_verdict_depends_on_where_presence_lies() -> None:
    measurement = PresenceShift()
    high, low = (lines_of(measurement, f4_rows(z)) for z in (5.0, 0.8))
    assert measurement.verdict(high).word == "depends" and measurement.verdict(low).word == "confirmed"
    assert high["-1: lost, measured"].estimate.value == 0 and low["-1: lost, measured"].estimate.value == 1
    assert high["-5.16: measured less formula"].estimate.value == 0
    assert measurement.verdict(lines_of(measurement, f4_rows(30.0))).word == "refuted"
    assert measurement.examples(Table({}, f4_rows(5.0))) == 40


# G1


def test_g1_distances_of_known_distributions() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(4000, 8))
    ones = np.ones((1, 4000))
    moved, wider = image[::-1] + 2.0, 3 * rng.normal(size=(4000, 8))
    assert mean_offset(image, moved)(ones)[0] == pytest.approx(2.0, abs=0.1)
    assert variance_ratio(image, moved)(ones)[0] == pytest.approx(0.0, abs=0.1)
    assert variance_ratio(image, wider)(ones)[0] == pytest.approx(2 * np.log(3), abs=0.1)
    assert told_apart(image[:200], moved[:200] + 4).mean() > 0.99
    assert 0.4 < told_apart(image[:200], image[200:400]).mean() < 0.6


def test_g1_tokens_that_are_image_features_do_not_differ() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for scene in range(80):
        pooled = rng.normal(size=8)
        other = pack(pooled + 0.1 * rng.normal(size=8))
        rows.append({"scene": scene, "pooled": pack(pooled), "mirrored": other, "token": other})
    measurement = TokenStatistics()
    lines = lines_of(measurement, measurement.finish(rows))
    assert measurement.verdict(lines).word == "refuted"
    apart = [{**row, "token": pack(5 + 3 * rng.normal(size=8))} for row in rows]
    assert measurement.verdict(lines_of(measurement, measurement.finish(apart))).word == "confirmed"


# G2


def test_g2_the_cosine_is_that_of_the_two_gradients_and_the_control_that_of_another_example(
    monkeypatch: pytest.MonkeyPatch, tiny_segmenter: Segmenter
) -> None:
    given = iter(
        [
            TwoGradients(torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.0])),
            TwoGradients(torch.tensor([0.0, -1.0]), torch.tensor([0.0, 1.0])),
        ]
    )
    monkeypatch.setattr(encoder_conflict, "both_gradients", lambda *_: next(given))
    rows = EncoderConflict().measure(tiny_segmenter, SCENES, range(2), Options(fresh_seeds=()))
    assert [row["cosine"] for row in rows] == [-1, -1] and [row["shuffled"] for row in rows] == [0, 0]
    assert [row["length ratio"] for row in rows] == [0.5, 1.0]


def test_g2_the_half_trained_model_is_measured_beside_the_finished_one(
    monkeypatch: pytest.MonkeyPatch, tiny_segmenter: Segmenter, model: Segmenter
) -> None:
    finished = TwoGradients(torch.tensor([1.0]), torch.tensor([1.0]))
    half = TwoGradients(torch.tensor([-1.0]), torch.tensor([1.0]))
    monkeypatch.setattr(encoder_conflict, "both_gradients", lambda it, *_: half if it is model else finished)
    options = Options(fresh_seeds=(), half_trained=model)
    rows = EncoderConflict().measure(tiny_segmenter, SCENES, range(1), options)
    assert [(row["encoder"], row["cosine"]) for row in rows] == [("finished", 1), ("half-trained", -1)]


def test_g2_only_the_exemplar_encoder_is_fresh_and_the_model_stays(tiny_segmenter: Segmenter) -> None:
    before = {name: value.clone() for name, value in tiny_segmenter.detector.state_dict().items()}
    fresh = with_fresh_exemplars(tiny_segmenter, 0).detector.state_dict()
    again = with_fresh_exemplars(tiny_segmenter, 0).detector.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, fresh[name])}
    assert changed and all(name.startswith("exemplar_encoder") for name in changed)
    assert all(torch.equal(value, again[name]) for name, value in fresh.items())
    assert all(torch.equal(v, before[n]) for n, v in tiny_segmenter.detector.state_dict().items())


def test_g2_the_verdict_asks_for_more_than_shuffled_examples_show() -> None:
    rng = np.random.default_rng(2)

    def rows(finished: float, fresh: float, shuffled: float) -> list[Row]:
        return [
            {
                "scene": scene, "encoder": state, "seed": seed, "length ratio": 0.1,
                "cosine": mean + 0.1 * rng.normal(), "shuffled": shuffled + 0.1 * rng.normal(),
            }
            for scene in range(64)
            for state, mean, seeds in (("finished", finished, (0,)), ("fresh", fresh, (0, 1, 2)))
            for seed in seeds
        ]  # fmt: skip

    measurement = EncoderConflict()
    for given, word in (
        ((-0.2, -0.3, 0.0), "confirmed"),
        ((0.0, -0.3, 0.0), "depends"),
        ((-0.2, -0.2, -0.3), "refuted"),
    ):
        lines = lines_of(measurement, rows(*given))
        assert measurement.verdict(lines).word == word
    assert lines["fresh: cosine"].estimate.seeds == 3 and lines["fresh: cosine"].estimate.scenes == 64
    assert measurement.examples(Table({}, rows(0, 0, 0))) == 64


# G3 and G4


def an_object() -> tuple[np.ndarray, np.ndarray, ShownObject]:
    pixels = np.zeros((96, 96, 3), np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[20:44, 30:50] = True
    pixels[mask] = 200
    return pixels, np.full((96, 96, 3), 50, np.uint8), ShownObject("block", (30.0, 20.0, 50.0, 44.0), mask)


def test_g3_only_the_size_of_the_example_changes() -> None:
    pixels, other, it = an_object()
    views = scaled_views(pixels, it, other)
    assert set(views) == {"before", "0.5x", "2x", "elsewhere"}
    areas = {name: int((picture == 200).all(-1).sum()) for name, (picture, _) in views.items()}
    assert areas == {"before": 480, "0.5x": 120, "2x": 1920, "elsewhere": 480}
    for picture, (x0, y0, x1, y1) in views.values():
        inside = np.zeros((96, 96), bool)
        inside[int(y0) : int(y1), int(x0) : int(x1)] = True
        assert (picture[inside] == 200).all() and (picture[~inside] == 50).all()
    assert scaled_views(pixels, dataclasses.replace(it, mask=None), other) == {}


def test_g4_surroundings_change_every_pixel_outside_the_box_and_none_inside() -> None:
    pixels, other, it = an_object()
    changed = other_surroundings(pixels, it.box_xyxy, other)
    inside = np.zeros((96, 96), bool)
    inside[20:44, 30:50] = True
    assert (changed[inside] == pixels[inside]).all() and (changed[~inside] == 50).all()
    elsewhere = covered_elsewhere(pixels, it.box_xyxy, other)
    assert elsewhere is not None and (elsewhere[inside] == pixels[inside]).all()
    assert (elsewhere != pixels).any(-1).sum() == 20 * 10
    assert covered_elsewhere(pixels, (0.0, 0.0, 96.0, 96.0), other) is None


def change_rows(measurement: ExampleScale | ExampleContext, moved: dict[str, float]) -> list[Row]:
    """Vectors that the named sides lose so much of themselves by each change but the control."""
    rng = np.random.default_rng(3)
    rows = []
    for scene in range(60):
        row: Row = {"scene": scene}
        for side, loss in moved.items():
            own = rng.normal(size=16)
            row[f"{side} before"] = own.tolist()
            for name in measurement.changes:
                noise = 0.05 if name == measurement.control else loss
                row[f"{side} {name}"] = (own + noise * rng.normal(size=16)).tolist()
        rows.append(row)
    rows[0]["token " + measurement.changes[0]] = rows[0]["pooled " + measurement.changes[0]] = None
    return measurement.finish(rows)


def test_g3_and_g4_side_by_side() -> None:
    scale, context = ExampleScale(), ExampleContext()
    for token, pooled, of_scale, of_context in (
        (1.0, 0.05, "confirmed", "refuted"),
        (0.05, 1.0, "refuted", "confirmed"),
    ):
        given = {"token": token, "pooled": pooled}
        lines = lines_of(scale, change_rows(scale, given))
        assert scale.verdict(lines).word == of_scale
        assert lines["exemplar token, 0.5x: cosine"].estimate.examples == 59
        assert context.verdict(lines_of(context, change_rows(context, given))).word == of_context


def test_g3_and_g4_a_model_is_measured_and_vectors_do_not_stay(tiny_segmenter: Segmenter) -> None:
    for measurement in (ExampleScale(), ExampleContext()):
        table = measured(measurement, tiny_segmenter, 3, LARGE)
        assert len(table) >= 1
        for row in table.rows:
            assert all(
                value is None or -1.0001 <= value <= 1.0001 for name, value in row.items() if name != "scene"
            )
        assert measurement.lines(table)


def test_g4_a_token_that_reads_its_patch_alone_is_not_moved_by_its_surroundings(
    monkeypatch: pytest.MonkeyPatch, tiny_segmenter: Segmenter
) -> None:
    def read(segmenter: Segmenter, pixels: np.ndarray, boxes: list[Any]) -> BoxTokens:
        x0, y0, x1, y1 = (round(side) for side in boxes[0])
        patch, whole = pixels[y0:y1, x0:x1].mean((0, 1)), pixels.mean((0, 1))
        return BoxTokens(patch[None], patch[None], (patch + whole)[None, None])

    monkeypatch.setattr("conceptseg.evidence.example_changes.read_boxes", read)
    rows = measured(ExampleContext(), tiny_segmenter, 4, LARGE).rows
    assert rows
    assert all(row["token other surroundings: cosine"] == pytest.approx(1) for row in rows)
    assert all(row["pooled other surroundings: cosine"] < 0.9999 for row in rows)


# G11


def test_g11_weighted_figures_are_those_of_the_evaluator() -> None:
    rng = np.random.default_rng(4)
    whole = ConceptEvaluator("masks")
    rows = []
    for scene in range(12):
        masks = rng.random((int(rng.integers(0, 3)), 8, 8)) > 0.5
        found = np.concatenate((masks[:1], rng.random((int(rng.integers(0, 2)), 8, 8)) > 0.5))
        one = ConceptEvaluator("masks")
        for evaluator in (one, whole):
            evaluator.add(ConceptPair(np.full(len(found), 0.9), predicted_masks=found, target_masks=masks))
        row = {"scene": scene, "present": len(masks) > 0, "targets": len(masks)}
        counts = (one.predictions, int(one.true_positives[0]), float(one.true_positives.mean()))
        rows.append(
            {**row, **{f"unchanged: {w}": c for w, c in zip(example_robustness.COUNTS, counts, strict=True)}}
        )
    table, known, ones = Table({}, rows), np.ones(12, bool), np.ones((1, 12))
    metrics = whole.compute()
    assert cgf1_of(table, "unchanged", known)(ones)[0] == pytest.approx(metrics.cgf1, rel=3e-4)  # epsilons
    assert f1_of(table, "unchanged", known)(ones)[0] == pytest.approx(metrics.f1_50, rel=3e-4)


def g11_rows(kept: dict[str, bool]) -> list[Row]:
    """Every example finds its two objects, but after the changes that are not kept."""
    rows = []
    for scene in range(60):
        for present in (True, False):
            row: Row = {"scene": scene, "present": present, "targets": 2 * present}
            for name in example_robustness.VIEWS:
                right = 2 * (present and kept.get(name, True) and scene > 2)
                row |= {f"{name}: {what}": right for what in example_robustness.COUNTS}
            rows.append(row)
    return rows


def test_g11_the_verdict_names_the_changes_that_cost_nothing() -> None:
    measurement = ExampleRobustness()
    assert measurement.verdict(lines_of(measurement, g11_rows({}))).word == "confirmed"
    verdict = measurement.verdict(lines_of(measurement, g11_rows({"covered": False, "perspective": False})))
    assert verdict.word == "depends" and "covered" not in verdict.why and "half the size" in verdict.why
    nothing = dict.fromkeys(example_robustness.CHANGES, False)
    assert measurement.verdict(lines_of(measurement, g11_rows(nothing))).word == "refuted"
    assert measurement.examples(Table({}, g11_rows({}))) == 60


def test_g11_a_warp_takes_corners_where_it_should_and_the_box_along() -> None:
    square = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], float)
    tilted = np.array([(2, 0), (8, 0), (10, 10), (0, 10)], float)
    a, b, c, d, e, f, g, h = homography(square, tilted)
    for (x, y), (u, v) in zip(square, tilted, strict=True):
        scale = g * x + h * y + 1
        assert ((a * x + b * y + c) / scale, (d * x + e * y + f) / scale) == pytest.approx((u, v), abs=1e-9)
    pixels, _, it = an_object()
    seen = example_robustness.seen_from_aside(pixels, it, np.random.default_rng(0))
    assert seen is not None
    picture, (x0, y0, x1, y1) = seen
    rows, columns = np.nonzero((picture > 150).all(-1))
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.array(found) - (x0, y0, x1, y1)).max() <= 1 and (x0, y0, x1, y1) != it.box_xyxy


def test_g11_present_and_absent_concepts_are_asked_with_every_view(tiny_segmenter: Segmenter) -> None:
    rows = measured(ExampleRobustness(), tiny_segmenter, 2).rows
    assert {row["present"] for row in rows} == {True, False}
    for row in rows:
        assert row["covered: predicted"] is not None and (row["targets"] > 0) == row["present"]
        assert row["present"] or row["covered: right"] == 0


def test_g11_where_a_picture_shows_one_concept_the_negative_box_is_of_another_picture(
    tiny_segmenter: Segmenter,
) -> None:
    scene, other = SCENES.scene(0), SCENES.scene(1)
    one = scene.objects[0]
    alone = dataclasses.replace(scene, objects=[one], families={one.family: [0]})
    it = ShownObject(one.family, one.box_xyxy, one.mask)
    kinds = example_robustness.example_kinds(tiny_segmenter, alone, it, other, np.random.default_rng(0))
    negative = kinds[example_robustness.NEGATIVE]
    assert negative.labels == (1, 0) and negative.images == 2
    assert kinds["covered"].images == 1 and kinds["covered"].labels == (1,)


def test_g11_changes_with_too_few_examples_stay_out_of_the_verdict() -> None:
    rows = g11_rows({"twice the size": False}) * 4
    rows = [{**row, "scene": i} for i, row in enumerate(rows)]
    for row in rows[199:]:
        row |= {f"twice the size: {what}": None for what in example_robustness.COUNTS}
    measurement = ExampleRobustness()
    verdict = measurement.verdict(lines_of(measurement, rows))
    assert verdict.word == "confirmed" and "too few to tell: twice the size" in verdict.why
    assert "twice the size: change of cgF1" not in verdict.effect


# G12


def test_g12_increases_are_measured_beside_the_whole_and_compared_with_what_was_expected() -> None:
    measurement = ComponentCosts()

    def rows(step: float, memory: float, gradients: float, unified: float, adaptive: float) -> list[Row]:
        rows = []
        for scene in range(30):
            busy = 1 + scene % 4  # what else the machine did fell on all alike
            row: Row = {"scene": scene}
            for name, more in (("roi", 0.0), ("unified", unified), ("adaptive", adaptive)):
                row[f"answer, seconds: {name}"] = busy * (1 + more + 0.002 * (scene % 2))
                row[f"answer, gigaflop: {name}"] = 7 * (1 + more)
            for name in component_costs.LOSSES:
                both = name == component_costs.BOTH
                row[f"step, seconds: {name}"] = busy * (1 + both * step)
                row[f"step, activations in MB: {name}"] = 100 * (1 + both * memory)
                row[f"step, gradients in MB: {name}"] = 30 * (1 + both * gradients)
            if scene % 4:  # counted once per piece
                row = {k: None if "MB" in k or "gigaflop" in k else v for k, v in row.items()}
            rows.append(row)
        return rows

    for given, word in (
        ((0.06, 0.18, 0.12, 0.12, 0.1), "confirmed"),
        ((0.06, 0.01, 0.01, 0.01, 0.01), "depends"),
        ((0.01, 0.01, 0.01, 0.01, 0.01), "refuted"),
    ):
        lines = lines_of(measurement, rows(*given))
        assert measurement.verdict(lines).word == word
        assert lines["both losses: time of a training step"].estimate.value == pytest.approx(given[0])


def test_g12_every_encoder_answers_and_every_loss_trains(tiny_segmenter: Segmenter) -> None:
    before = {name: value.clone() for name, value in tiny_segmenter.detector.state_dict().items()}
    table = measured(ComponentCosts(), tiny_segmenter, 1)
    (row,) = table.rows
    kinds = {name.split(": ")[1] for name in row if name.startswith("answer, gigaflop")}
    assert kinds == {"roi", "roi_transformer", "unified", "bridge", "adaptive"}
    assert all(value > 0 for name, value in row.items() if name not in ("scene",) and "seconds" not in name)
    assert row["step, activations in MB: both"] > row["step, activations in MB: no alignment"]
    assert row["answer, gigaflop: unified"] != row["answer, gigaflop: roi"]
    assert row["step, gradients in MB: both"] > row["step, gradients in MB: no alignment"]
    assert all(torch.equal(v, before[n]) for n, v in tiny_segmenter.detector.state_dict().items())
    assert ComponentCosts().lines(table)


def test_pictures_are_the_same_in_every_run_and_what_is_elsewhere_is_not_here() -> None:
    again = DrawnScenes(4, 96)
    assert (again.scene(2).image == SCENES.scene(2).image).all()
    assert (again.scene(2).image == render_scene(2, size=96, theme=2, split="held_out").image).all()
    assert (DrawnScenes(4, 96, seed=1).scene(2).image != SCENES.scene(2).image).any()
    assert sum(SCENES.elsewhere(number) is not None for number in range(4)) >= 3
    for number in range(4):
        found = SCENES.elsewhere(number)
        if found is not None:
            scene, concept = found
            assert concept in scene.families and concept not in SCENES.scene(number).families


def test_a_step_whose_memory_was_measured_is_freed(tiny_segmenter: Segmenter) -> None:
    """Forty rounds once filled a machine's memory."""
    task = component_costs.whole_task(tiny_segmenter, component_costs.LOSSES[component_costs.BOTH])
    scenes = [SCENES.scene(0), SCENES.scene(1)]
    asked = QuestionConfig(phrase=0.0, absent_phrase=0.0, boxes=1.0, phrase_and_boxes=0.0, other_image=0.0)
    side = tiny_segmenter.resolution
    pool = PoolConfig(scenes=2, pairs=1, resolution=side, render_size=max(64, side), questions=asked)
    batch = PoolBatches(pool, scenes, tiny_segmenter.tokenizer, 0, 1)[0]
    made: list[StorageWeakRef] = []

    def note(module: object, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            made.append(StorageWeakRef(output.untyped_storage()))

    hooks = [module.register_forward_hook(note) for module in task.modules()]
    component_costs.step_memory(task, batch)
    for hook in hooks:
        hook.remove()
    gc.collect()
    assert len(made) > 100 and all(it.expired() for it in made)

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conceptseg.data.concept_data import ConceptImage, open_dataset
from conceptseg.errors import DataError, ImageError, OptionError, PromptError
from conceptseg.evaluation.evaluate import EvaluationResult, evaluate
from conceptseg.evaluation.mistakes import draw_mistake
from conceptseg.evaluation.regions import encode_masks
from conceptseg.segmenter import Segmenter
from tests.evaluation.scripted import HEIGHT, WIDTH, Dataset, Scripted, picture, thing, write_coco

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 20, 60, 40]
NOWHERE = [0, 30, 10, 40]


@pytest.fixture
def cats_and_dogs(tmp_path: Path) -> list[ConceptImage]:
    """Two cats in a.png, one dog in b.png; each image is known not to show the other."""
    return [
        picture(tmp_path, "a.png", {"cat": [thing(A), thing(B)]}, absent_phrases=("dog",)),
        picture(tmp_path, "b.png", {"dog": [thing(C)]}, absent_phrases=("cat",)),
    ]


ANSWERS = {
    ("a.png", "cat"): (0.95, [(A, 0.9), (NOWHERE, 0.6), (B, 0.3)]),
    ("a.png", "dog"): (0.1, []),
    ("b.png", "dog"): (0.9, [(C, 0.8)]),
    ("b.png", "cat"): (0.6, [(NOWHERE, 0.7)]),
}


def run(
    images: list[ConceptImage], segmenter: Any = None, masked: bool = True, **options: Any
) -> EvaluationResult:
    return evaluate(segmenter or Scripted(ANSWERS), Dataset(images, masked), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_every_metric_of_two_images_worked_by_hand(kind: str, cats_and_dogs: list[ConceptImage]) -> None:
    metrics = run(cats_and_dogs).metrics[kind]
    # Image level: a/cat and b/dog found, a/dog rightly empty, b/cat a false alarm:
    #   MCC = (2 * 1 - 1 * 0) / sqrt(3 * 2 * 2 * 1) = 2 / sqrt(12)
    assert metrics["il_mcc"] == pytest.approx(2 / math.sqrt(12), abs=1e-4)
    # Where the concept is, from 0.5 up: 2 right, 1 false, 1 missed (its score is 0.3): P+ = R = 2/3
    assert metrics["pmf1"] == pytest.approx(2 / 3, abs=1e-3)
    assert metrics["cgf1"] == pytest.approx(2 / 3 * 2 / math.sqrt(12), abs=1e-3)
    # Over all pairs: 2 of 4 detections right, 2 of 3 objects found
    assert metrics["precision"] == pytest.approx(0.5, abs=1e-3)
    assert metrics["recall"] == pytest.approx(2 / 3, abs=1e-3)
    # AP of dog is 1. Cats by score: right, false (b.png), false, right: precision 1 to recall 1/2, then 2/4
    cat = (51 + 50 * 0.5) / 101
    assert [metrics[name] for name in ("map", "map50", "map75")] == pytest.approx([(1 + cat) / 2] * 3)


def test_presence_and_counts_worked_by_hand(cats_and_dogs: list[ConceptImage]) -> None:
    result = run(cats_and_dogs)
    # Present 0.95 and 0.9, absent 0.1 and 0.6: in order; off by 0.05, 0.1, 0.1 and 0.6, each in its own bin
    assert result.presence == {"auroc": 1.0, "ece": pytest.approx(0.85 / 4)}
    assert result.metrics["counts"] == {
        "images": 2, "pairs": 4, "positive_pairs": 2, "absent_pairs": 2, "incomplete_pairs": 0, "objects": 3,
        "crowds": 0, "predictions": 4, "phrases": 2, "skipped_pairs": 0,
    }  # fmt: skip


def test_phrases_are_judged_on_their_own(cats_and_dogs: list[ConceptImage]) -> None:
    per_phrase = run(cats_and_dogs).metrics["per_phrase"]
    assert list(per_phrase) == ["cat", "dog"]
    assert per_phrase["dog"]["masks"]["cgf1"] == pytest.approx(1, abs=1e-3)
    assert per_phrase["cat"]["masks"]["map50"] == pytest.approx(76 / 101)
    assert per_phrase["cat"]["masks"]["il_mcc"] == 0  # found where it is and where it is not
    assert per_phrase["cat"]["presence"]["auroc"] == 1
    assert per_phrase["cat"]["counts"]["objects"] == 2


def test_a_phrase_that_every_image_shows_has_no_correlation_of_its_own(tmp_path: Path) -> None:
    images = [picture(tmp_path, "a.png", {"cat": [thing(A)]}, absent_phrases=("dog",))]
    per_phrase = run(images).metrics["per_phrase"]
    for phrase, defined in (("cat", True), ("dog", False)):
        values = per_phrase[phrase]["masks"]
        assert math.isnan(values["cgf1"]) and math.isnan(values["il_mcc"])
        assert math.isnan(values["pmf1"]) is not defined


def test_curves_over_the_score_threshold(cats_and_dogs: list[ConceptImage]) -> None:
    curves = run(cats_and_dogs).curves["masks"]
    # From 0.65 up: 0.9 and 0.8 are right, 0.7 is not; from 0.95 up there is nothing
    assert curves.precision_at_score[65] == pytest.approx(2 / 3)
    assert curves.recall_at_score[65] == pytest.approx(2 / 3)
    assert curves.recall_at_score[0] == 1
    assert math.isnan(curves.precision_at_score[95])


def test_the_threshold_moves_what_counts_but_not_average_precision(cats_and_dogs: list[ConceptImage]) -> None:
    low, high = (run(cats_and_dogs, threshold=threshold).masks for threshold in (0.2, 0.75))
    assert (low["recall"], high["recall"]) == (pytest.approx(1, abs=1e-3), pytest.approx(2 / 3, abs=1e-3))
    assert high["il_mcc"] == pytest.approx(1, abs=1e-4)
    assert low["map"] == high["map"]


def test_without_lower_scores_everything_but_average_precision_is_the_same(
    cats_and_dogs: list[ConceptImage],
) -> None:
    whole, fast = run(cats_and_dogs, threshold=0.65), run(cats_and_dogs, threshold=0.65, least_score=0.65)
    for name in ("cgf1", "il_mcc", "pmf1", "precision", "recall"):
        assert whole.masks[name] == fast.masks[name]
    assert fast.masks["map"] <= whole.masks["map"]


def test_worst_mistakes_come_first_and_can_be_drawn(cats_and_dogs: list[ConceptImage]) -> None:
    result = run(cats_and_dogs)
    (miss,) = result.misses
    assert (miss.path.name, miss.phrase, miss.describe()) == ("a.png", "cat", "1 missed, 1 false, 1 right")
    assert miss.missed[0].box_xyxy == tuple(B)
    assert [(it.path.name, it.false[0].score) for it in result.false_positives] == [
        ("b.png", pytest.approx(0.7)),
        ("a.png", pytest.approx(0.6)),
    ]
    assert draw_mistake(miss).size == (WIDTH, HEIGHT)
    assert len(run(cats_and_dogs, worst=1).false_positives) == 1
    assert run(cats_and_dogs, worst=0).misses == []


def test_boxes_only_data_leaves_masks_undefined(tmp_path: Path) -> None:
    image = picture(tmp_path, "a.png", {"cat": [thing(A, masked=False)]}, absent_phrases=("dog",))
    result = run([image], masked=False)
    assert all(math.isnan(value) for value in result.masks.values())
    # Right at 0.9, false at 0.6 and (not annotated here) at 0.3
    assert result.boxes["map50"] == pytest.approx(1)
    assert result.boxes["precision"] == pytest.approx(0.5, abs=1e-3)
    assert draw_mistake(result.false_positives[0]).size == (WIDTH, HEIGHT)


def test_a_crowd_is_neither_to_find_nor_to_miss(tmp_path: Path) -> None:
    crowd = thing([0, 28, 20, 44], masked=False, crowd=True)  # covers NOWHERE, and has no mask of its own
    image = picture(tmp_path, "a.png", {"cat": [thing(A), thing(B), crowd]})
    result = run([image])
    assert result.masks["map50"] == pytest.approx(1)  # as if the detection on the crowd were not there
    assert result.masks["recall"] == pytest.approx(0.5, abs=1e-3)
    assert result.metrics["counts"]["crowds"] == 1
    assert result.false_positives == []


def test_a_phrase_that_is_not_annotated_in_full_counts_for_presence_alone(
    tmp_path: Path, cats_and_dogs: list[ConceptImage]
) -> None:
    partly = picture(tmp_path, "c.png", {"cat": [thing(C)]}, incomplete_phrases=frozenset(["cat"]))
    segmenter = Scripted({**ANSWERS, ("c.png", "cat"): (0.2, [(NOWHERE, 0.9)])})
    before, after = run(cats_and_dogs), run([*cats_and_dogs, partly], segmenter)
    assert after.masks == before.masks
    assert after.metrics["counts"]["incomplete_pairs"] == 1
    assert after.presence["auroc"] == pytest.approx(
        5 / 6
    )  # 0.95, 0.9, 0.2 against 0.1, 0.6: one couple wrong


def test_raw_presence_logits_are_kept_beside_presence(cats_and_dogs: list[ConceptImage]) -> None:
    result = run(cats_and_dogs)
    assert result.presence_logits.tolist() == pytest.approx((100 * result.presence_scores).tolist())
    assert len(set(result.presence_scores)) > 1


def test_an_image_of_which_nothing_is_known_is_not_opened(tmp_path: Path) -> None:
    unknown = ConceptImage(tmp_path / "missing.png", WIDTH, HEIGHT, {})
    result = run([unknown])
    assert result.metrics["counts"]["pairs"] == 0
    assert math.isnan(result.masks["map"]) and math.isnan(result.presence["ece"])


def test_phrases_that_the_caller_knows_to_be_absent_are_asked_too(cats_and_dogs: list[ConceptImage]) -> None:
    segmenter = Scripted({**ANSWERS, ("a.png", "unicorn"): (0.9, [(NOWHERE, 0.9)])})
    result = run(cats_and_dogs, segmenter, absent=["unicorn", "cat"])
    assert [call["text"] for call in segmenter.asked] == [
        ["cat", "dog", "unicorn"],
        ["dog", "cat", "unicorn"],
    ]
    assert result.metrics["counts"]["absent_pairs"] == 4
    assert math.isnan(result.metrics["per_phrase"]["unicorn"]["masks"]["map"])
    # Image level: 2 found, 2 false alarms of 4 absent pairs: (2 * 2 - 2 * 0) / sqrt(4 * 2 * 4 * 2)
    assert result.masks["il_mcc"] == pytest.approx(0.5, abs=1e-4)


def test_boxes_show_an_object_of_the_image_or_of_another_one(cats_and_dogs: list[ConceptImage]) -> None:
    segmenter = Scripted({("a.png", "visual"): (0.9, [(A, 0.9)])})
    result = run(cats_and_dogs, segmenter, prompts="boxes")
    cat, dog_in_a, dog, cat_in_b = segmenter.asked
    assert all(call["text"] is None for call in segmenter.asked)
    assert cat["boxes"] in ([A], [B]) and cat["exemplar"] is None
    assert dog["boxes"] == [C]
    assert dog_in_a["boxes"] is None
    assert (dog_in_a["exemplar"].name, dog_in_a["exemplar"].boxes) == ("b.png", [C])
    assert cat_in_b["exemplar"].name == "a.png"
    assert list(result.metrics["per_phrase"]) == ["cat", "dog"]


def test_both_asks_phrase_and_box_together(cats_and_dogs: list[ConceptImage]) -> None:
    segmenter = Scripted(ANSWERS)
    result = run(cats_and_dogs, segmenter, prompts="both", presence="ignore")
    assert [call["text"] for call in segmenter.asked] == ["cat", "dog", "dog", "cat"]
    assert all((call["boxes"] is None) != (call["exemplar"] is None) for call in segmenter.asked)
    assert all(call["presence"] == "ignore" for call in segmenter.asked)
    assert result.masks == run(cats_and_dogs).masks


def test_a_phrase_without_any_example_is_skipped_and_counted(tmp_path: Path) -> None:
    crowd = thing(B, crowd=True)
    image = picture(tmp_path, "a.png", {"cat": [thing(A)], "flock": [crowd]}, absent_phrases=("unicorn",))
    counts = run([image], prompts="boxes").metrics["counts"]
    assert (counts["pairs"], counts["skipped_pairs"]) == (1, 2)


def test_the_example_does_not_depend_on_other_images(cats_and_dogs: list[ConceptImage]) -> None:
    def shown(images: list[ConceptImage], seed: int = 0) -> Any:
        segmenter = Scripted({})
        run(images, segmenter, prompts="boxes", seed=seed)
        return next(call["boxes"] for call in segmenter.asked if call["image"] == "a.png" and call["boxes"])

    assert shown(cats_and_dogs) == shown(cats_and_dogs[:1]) == shown(cats_and_dogs[::-1])
    drawn = [shown(cats_and_dogs, seed) for seed in range(20)]
    assert [A] in drawn and [B] in drawn


def test_results_are_let_go_as_soon_as_they_are_counted(tmp_path: Path) -> None:
    images = [picture(tmp_path, f"{i}.png", {"cat": [thing(A)]}, absent_phrases=("dog",)) for i in range(30)]
    segmenter = Scripted({(f"{i}.png", "cat"): (0.9, [(B, 0.5 + 0.01 * i)]) for i in range(30)})
    result = run(images, segmenter, worst=3)
    assert max(segmenter.alive) <= 4  # two of the image before, two that are being made
    assert len(result.misses) == len(result.false_positives) == 3
    assert [it.path.name for it in result.false_positives] == ["29.png", "28.png", "27.png"]


def test_limit_takes_the_first_images_and_progress_is_told(cats_and_dogs: list[ConceptImage]) -> None:
    told: list[tuple[int, int]] = []
    result = run(cats_and_dogs, limit=1, progress=lambda done, wanted: told.append((done, wanted)))
    assert result.metrics["counts"]["images"] == 1
    assert told == [(1, 1)]
    assert run(cats_and_dogs, limit=5).metrics["counts"]["images"] == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prompts": "points"}, OptionError, "choose 'text', 'boxes', 'both'"),
        ({"limit": 0}, OptionError, "limit is 0"),
        ({"worst": -1}, OptionError, "worst is -1"),
        ({"threshold": 1.5}, OptionError, "1.5"),
        ({"absent": [" "]}, PromptError, "empty"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(
    cats_and_dogs: list[ConceptImage], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(cats_and_dogs, **options)


def test_data_that_does_not_fit_is_refused(tmp_path: Path, cats_and_dogs: list[ConceptImage]) -> None:
    with pytest.raises(DataError, match="no image to evaluate"):
        run([])
    with pytest.raises(DataError, match=r"a.png is 48 x 64 pixels, but its annotations are for 64 x 48"):
        run(cats_and_dogs, Scripted(ANSWERS, size_hw=(WIDTH, HEIGHT)))


def test_a_missing_image_is_named(tmp_path: Path, tiny_segmenter: Segmenter) -> None:
    image = ConceptImage(tmp_path / "gone.png", WIDTH, HEIGHT, {"cat": [thing(A)]})
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        run([image], tiny_segmenter)


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_average_precision_of_a_real_model_is_that_of_pycocotools(
    kind: str, tmp_path: Path, tiny_segmenter: Segmenter
) -> None:
    answers = []

    class Heard(Segmenter):
        def segment(self, encoded: Any, text: Any, **options: Any) -> Any:
            found = super().segment(encoded, text, **options)
            answers.extend((encoded.image.path.name, result) for result in found)
            return found

    # The objects are what the model itself finds in one of the images, so that some detections are right.
    whole = [0, 0, WIDTH, HEIGHT]
    write_coco(tmp_path / "blank", {"a.png": {"coin": [whole]}})
    found = tiny_segmenter.segment(tmp_path / "blank" / "valid" / "a.png", text="coin", threshold=0.001)
    boxes = [[round(side) for side in box] for box in found.boxes[[0, 4]].clip(0, HEIGHT).tolist()]
    data = write_coco(tmp_path / "data", {"a.png": {"coin": [whole, *boxes]}, "b.png": {"star": boxes[:1]}})

    dataset = open_dataset(data)
    heard = Heard(tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config)
    ours = evaluate(heard, dataset).metrics[kind]
    detections = []
    for name, result in answers:
        for box, mask, score in zip(
            result.boxes.astype(float), encode_masks(result.masks), result.scores, strict=True
        ):
            x0, y0, x1, y1 = box.tolist()
            region = {"segmentation": mask} if kind == "masks" else {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            ids = {
                "image_id": ["a.png", "b.png"].index(name) + 1,
                "category_id": dataset.phrases.index(result.phrase) + 1,
            }
            detections.append({**ids, **region, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(data / "valid" / "_annotations.coco.json")
        reference = COCOeval(coco, coco.loadRes(detections), "segm" if kind == "masks" else "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    expected = [float(value) for value in reference.stats[:3]]
    assert [ours["map"], ours["map50"], ours["map75"]] == pytest.approx(expected, abs=1e-9)
    if kind == "boxes":
        assert expected[1] > 0.1

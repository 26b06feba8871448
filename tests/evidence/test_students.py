"""Claims about students, from studies that are written by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import students
from conceptseg.checkpoints.config_file import write_config
from conceptseg.errors import DataError
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.evidence.claims import SETTLED
from conceptseg.evidence.measurement import Line, Verdict
from conceptseg.evidence.students import collect_students
from conceptseg.models.config import ModelConfig, PresenceCalibration
from conceptseg.presence.pair_outcomes import PresenceFigures
from conceptseg.presence.repairs.finetune import presence_recipe
from conceptseg.presence.study import StudyRecipe, study_of
from conceptseg.study.table import Table
from tests.models.tiny import tiny_config

SCENES = 12
REPAIRS = ("ignore", "calibrate", "calibrate-no-labels", "offset", "finetune", "later-parts", "distil")
FIGURES = PresenceFigures(
    present_pairs=100, absent_pairs=100, objects=300, present_mean=4.0, present_std=2.0, absent_mean=-4.0,
    absent_std=2.0, auroc=0.95, class_auroc=0.7, ece=0.05, found_by_class=0.8, found=0.7,
    lost_to_presence=0.12, false_per_absent=0.1, false_per_absent_ignoring=2.0, absent_with_detections=0.08,
    absent_with_detections_ignoring=0.9,
)  # fmt: skip


def recipe_of(name: str) -> StudyRecipe:
    method = dict.fromkeys(REPAIRS, "distil") | {"ignore": "ignore", "calibrate": "calibrate"}
    method |= {"calibrate-no-labels": "calibrate", "offset": "calibrate", "finetune": "finetune"}
    return study_of(
        {
            "name": name,
            "teacher": "nano",
            "seeds": [0, 1],
            "repairs": [{"name": it, "method": method[it]} for it in REPAIRS],
        }
    )


def counts(present: int, found: int, answered: bool) -> list[int]:
    """cgF1's counts of a scene with one phrase that is there and one that is not."""
    evaluator = ConceptEvaluator("boxes")
    boxes = np.array([[10.0 * i, 0, 10 * i + 8, 8] for i in range(present)])
    evaluator.add(ConceptPair(np.ones(found), predicted_boxes=boxes[:found], target_boxes=boxes))
    wrong = boxes[: int(answered)]
    evaluator.add(ConceptPair(np.ones(len(wrong)), predicted_boxes=wrong, target_boxes=boxes[:0]))
    return evaluator.counts().tolist()


def judged(kept: int, logit: float, answered: bool = False) -> dict[str, object]:
    """Every scene has four objects, found by class score alone; presence keeps so many."""
    image = {
        "counts": counts(4, kept, answered),
        "present": [True, False],
        "presence_logit": [logit, logit - 4],
        "objects": [4, 0],
        "found_by_class": [4, 0],
        "found": [kept, 0],
        "detections": [kept, int(answered)],
    }
    return {
        "images": [image] * SCENES,
        "spent": {"cpu_seconds": 3.0},
        "model": {"resolution": 64, "gigaflops": 1.0},
    }


def write_study(
    folder: Path,
    shift: float,
    student: int,
    lost: float = 0.75,
    auroc: float = 0.95,
    repaired: dict[str, int] | None = None,
) -> None:
    """A student whose presence logits fell by `shift` and that finds so many of four objects.

    In its diagnosis presence takes `lost` of the true detections, and ranks pairs with `auroc`.
    """
    found = dict.fromkeys(REPAIRS, 4) | {"ignore": 3} | (repaired or {})
    for seed in (0, 1):
        home = folder / f"seed-{seed}"
        (home / "diagnosis").mkdir(parents=True)
        (home / "offset").mkdir()
        config = ModelConfig(tiny_config(), presence_calibration=PresenceCalibration(1.0, shift))
        write_config(home / "offset", config)
        figures = dataclasses.replace(FIGURES, lost_to_presence=lost, auroc=auroc).to_dict()
        diagnosis = {
            "model": figures,
            "teacher": FIGURES.to_dict(),
            "drift": {"fusion memory": {"cosine": 0.8}},
        }
        (home / "diagnosis" / "diagnosis.json").write_text(json.dumps(diagnosis))
        (home / "stage-1.json").write_text(json.dumps(judged(student, 2 - shift)))
        for name in REPAIRS:
            (home / f"{name}.json").write_text(json.dumps(judged(found[name], 2, name == "ignore")))
    (folder / "teacher.json").write_text(json.dumps(judged(4, 2)))


def settled(claim: str, recipes: dict[str, StudyRecipe], folder: Path) -> tuple[dict[str, Line], Verdict]:
    table = Table.load(collect_students(recipes, folder, folder / "out", "digest"))
    lines = SETTLED[claim].lines(table)
    by_name = {line.name: line for line in lines}
    assert len(by_name) == len(lines)  # a name that stood twice would hide a line
    return by_name, SETTLED[claim].verdict(by_name)


@pytest.fixture
def recipes() -> dict[str, StudyRecipe]:
    return {name: recipe_of(name) for name in ("vision-1", "text-1")}


def test_a_trunk_that_loses_to_presence_and_gets_it_back_confirms_the_cause(tmp_path, recipes) -> None:
    write_study(tmp_path / "vision-1", 3.0, student=1)
    write_study(tmp_path / "text-1", 0.0, student=4)
    lines, verdict = settled("F3", recipes, tmp_path)
    assert lines["vision-1: lost to presence beyond the teacher"].estimate.value == pytest.approx(0.75)
    assert lines["vision-1: logit if present, less the teacher's"].estimate.value == pytest.approx(-3)
    assert lines["text-1: lost to presence"].control and not lines["vision-1: lost to presence"].control
    assert verdict.word == "confirmed"


@pytest.mark.parametrize(("kept", "word"), [(1, "refuted"), (2, "depends")])
def test_what_training_the_later_parts_does_not_mend_has_another_cause(tmp_path, recipes, kept, word) -> None:
    write_study(tmp_path / "vision-1", 3.0, student=1, repaired={"later-parts": kept})
    write_study(tmp_path / "text-1", 0.0, student=4)
    assert settled("F3", recipes, tmp_path)[1].word == word


def test_an_order_of_repairs_that_is_inverted_is_refuted_and_said(tmp_path, recipes) -> None:
    for name in recipes:
        write_study(tmp_path / name, 3.0, student=1, repaired={"finetune": 2})
    lines, verdict = settled("F5", recipes, tmp_path)
    assert lines["distil: gain in cgF1"].estimate.value > lines["finetune: gain in cgF1"].estimate.value > 0
    assert verdict.word == "refuted" and "distil before finetune" in verdict.why
    assert lines["ignore: absent phrases answered"].estimate.value == 1


def test_other_settings_of_finetuning_stand_beside_it_where_they_were_tried(tmp_path, recipes) -> None:
    for name in recipes:
        write_study(tmp_path / name, 3.0, student=1, repaired={"finetune": 2, "offset": 4})
    swept = {"name": "stopped", "method": "finetune", "labels": "all"}
    choice = study_of({"name": "it", "teacher": "nano", "repairs": [swept]}).repairs[0]
    recipes["vision-1"] = dataclasses.replace(
        recipes["vision-1"], repairs=(*recipes["vision-1"].repairs, choice)
    )
    for seed, looks in ((0, (3.0, 1.0, 2.0)), (1, (3.0, 2.0, 1.0))):
        home = tmp_path / "vision-1" / f"seed-{seed}"
        (home / "stopped.json").write_text(json.dumps(judged(3, 2)))
        (home / "stopped" / "run").mkdir(parents=True)
        lines = [
            {"kind": "validation", "step": 25 * (i + 1), "loss/presence": it} for i, it in enumerate(looks)
        ]
        text = "".join(json.dumps(line) + "\n" for line in [{"kind": "train", "step": 1}, *lines])
        (home / "stopped" / "run" / "metrics.jsonl").write_text(text)
    table = Table.load(collect_students(recipes, tmp_path, tmp_path / "out", "digest", ["stopped"]))
    lines = {line.name: line.estimate for line in SETTLED["F5"].lines(table)}
    assert lines["stopped: gain in cgF1"].value > lines["stopped: less finetune, cgF1"].value > 0
    assert lines["stopped: less offset, cgF1"].value < 0
    assert lines["stopped: gain in cgF1"].examples == SCENES * 2  # of the one student that has it
    kept = lines["stopped: step that was kept, from least to most"]
    assert (kept.value, kept.low, kept.high) == (62.5, 50, 75)
    assert lines["finetune: gain in cgF1"].examples == SCENES * 4


def test_an_offset_of_another_student_is_compared_with_its_own(tmp_path, recipes) -> None:
    write_study(tmp_path / "vision-1", 4.0, student=1)  # there -2, absent -6: right only when shifted
    write_study(tmp_path / "text-1", 0.0, student=4)  # there 2, absent -2: right as it is
    lines, verdict = settled("F6", recipes, tmp_path)
    assert lines["right with its own offset"].estimate.value == 1
    assert lines["right with another student's"].estimate.value == 0.5
    assert verdict.word == "confirmed"


@pytest.mark.parametrize(("lost", "word"), [(0.75, "confirmed"), (0.12, "refuted")])
def test_advice_is_right_if_no_repair_brings_more(tmp_path, recipes, lost, word) -> None:
    for name in recipes:
        write_study(tmp_path / name, 3.0, student=1, lost=lost)
    lines, found = settled("F7", recipes, tmp_path)
    assert found.word == word
    assert lines["advice that is right"].estimate.examples == 4


def test_the_present_rule_is_judged_and_the_one_before_is_its_control(tmp_path, recipes) -> None:
    """Presence ranks a tenth worse than the teacher's, and calibrating repairs more than fine-tuning."""
    recipes = {"vision-100": recipes["vision-1"], "text-1": recipes["text-1"]}
    for name in recipes:
        write_study(tmp_path / name, 3.0, student=1, auroc=0.85, repaired={"finetune": 2})
    lines, found = settled("F7", recipes, tmp_path)
    assert (lines["advice that is right"].estimate.value, found.word) == (1.0, "confirmed")
    before = lines["advice that is right, by the rule before"]
    assert before.control and before.estimate.value == 0.0
    others = lines["advice that is right, of students that did not choose"].estimate
    assert (others.value, others.examples) == (1.0, 2)
    assert "text-1, seed 1: finetune, by the rule before less the best (calibrate-no-labels)" in lines


def test_a_student_that_is_not_done_is_left_out(tmp_path, recipes) -> None:
    with pytest.raises(DataError, match="no student with all of its repairs"):
        collect_students(recipes, tmp_path, tmp_path / "out", "digest")
    write_study(tmp_path / "vision-1", 3.0, student=1)
    (tmp_path / "vision-1" / "seed-1" / "distil.json").unlink()
    assert settled("F6", recipes, tmp_path)[1].word == "cannot be tested here"
    table = Table.load(collect_students(recipes, tmp_path, tmp_path / "out", "digest"))
    assert {(row["student"], row["seed"]) for row in table.rows} == {("vision-1", 0)}
    assert dataclasses.asdict(SETTLED["F3"].lines(table)[0].estimate)["scenes"] == SCENES


def test_the_committed_students_are_swept_where_the_recipe_says(capsys: pytest.CaptureFixture[str]) -> None:
    recipes = students.read_students(students.RECIPE)
    swept = [it["name"] for it in students.sweep_of(students.RECIPE)["repairs"]]
    for name, recipe in recipes.items():
        assert set(swept) <= {it.name for it in recipe.repairs} or name in ("vision-400", "both-400")
    tuned = {it.name: presence_recipe("", "", 0, it.options()) for it in recipes["vision-100"].repairs
             if it.method == "finetune"}  # fmt: skip
    assert {it.optimiser.lr for it in tuned.values()} == {1e-4, 5e-4, 2e-3}
    assert all((it.held_out > 0) == name.startswith("stopped") for name, it in tuned.items())
    assert students.main(["run", "--students", "vision-9"]) == 2
    assert "no student 'vision-9'; choose from vision-100, text-200" in capsys.readouterr().err

"""The study at a tiny scale: every part once, in one table, and on again after it was stopped."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path

import pytest
import yaml

from conceptseg.errors import ConfigError, TrainingError
from conceptseg.presence.labelled_data import fitting_data
from conceptseg.presence.stopwatch import stopwatch
from conceptseg.presence.study import Study, StudyRecipe, read_study, run_study
from conceptseg.study.pinned import weights_digest
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest
from tests.evaluation.scripted import write_coco

LEFT, RIGHT = [0, 0, 40, 48], [24, 0, 64, 48]
SMALL = "data.images=2, data.questions=1, data.workers=0, data.render_size=64, validation_batches=0"


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A recipe file: the tiny model and a smaller student, three repairs, two seeds."""
    images = {f"{n:02}.png": ({"coin": [LEFT]} if n // 2 % 2 else {"star": [LEFT, RIGHT]}) for n in range(12)}
    data = write_coco(tmp_path / "data", images)
    file = tmp_path / "tiny.yaml"
    file.write_text(
        f"""
name: tiny-study
teacher: {tiny_model_folder}
student: nano-student
data: {data}
seeds: [0, 1]
fit_images: 6
judge_images: 2
threshold: 0.1
stage_1: [steps=2, {SMALL},
  "architecture.vision={{stem_width: 4, widths: [4, 8, 12, 16], blocks: [1, 1, 1, 1], pyramid_width: 32}}",
  "architecture.text={{width: 16, depth: 1, heads: 2, mlp_width: 16}}"]
repairs:
  - {{name: ignore, method: ignore}}
  - {{name: calibrate-no-labels, method: calibrate, labels: none, images: 5}}
  - {{name: distil-2, method: distil, labels: none, overrides: [steps=2, {SMALL}]}}
"""
    )
    return file


def parts(folder: Path) -> list[str]:
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("seed-*/*.json")]
    return sorted([*names, *(["teacher"] if (folder / "teacher.json").is_file() else [])])


def test_a_study_that_is_stopped_goes_on_and_ends_in_one_table(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    chosen = read_study(recipe)
    said: list[str] = []

    def stop_at_the_distillation(what: str) -> None:
        if what == "seed 1: distil-2":
            raise KeyboardInterrupt
        said.append(what)

    with pytest.raises(KeyboardInterrupt, match="go on with --resume"):
        run_study(chosen, out, progress=stop_at_the_distillation)
    assert (out / "report.md").is_file()  # of what was done
    with pytest.raises(TrainingError, match="already holds a study"):
        run_study(chosen, out)
    again: list[str] = []
    assert run_study(chosen, out, resume=True, progress=again.append).is_file()
    assert again == ["seed 1: distil-2"]
    names = [f"seed-{seed}/{name}" for seed in (0, 1)
             for name in ("calibrate-no-labels", "distil-2", "ignore", "stage-1")]  # fmt: skip
    assert parts(out) == [*names, "teacher"]
    values = json.loads((out / "study.json").read_text())
    assert list(values["summary"]) == ["teacher", "stage-1", "ignore", "calibrate-no-labels", "distil-2"]
    assert values["summary"]["distil-2"]["seeds"] == 2
    assert values["weights"] == weights_digest(chosen.teacher)
    assert values["summary"]["ignore"]["labels"] == 0
    assert values["summary"]["calibrate-no-labels"]["images"] == 5  # of the six that are fitted on
    text = (out / "report.md").read_text()
    assert f"(weights `{values['weights']}`)" in text
    assert re.search(r"\| ignore \| [+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\] \|", text)
    assert re.search(r"\| stage-1 \| - \| - \|", text)  # nothing was repaired yet
    assert (out / "cost.png").stat().st_size > 1000
    assert (out / "seed-1" / "diagnosis" / "report.md").is_file()


def test_several_processes_share_out_the_seeds(recipe: Path, tmp_path: Path) -> None:
    whole, out = read_study(recipe), tmp_path / "study"
    study = dataclasses.replace(whole, repairs=whole.repairs[:1])  # one that takes no time
    said: list[str] = []

    def another_comes(what: str) -> None:
        said.append(what)
        if what == "seed 0: distilling encoders":
            run_study(study, out, resume=True, progress=lambda other: said.append(f"another, {other}"))

    run_study(study, out, progress=another_comes)
    assert said == [
        "judging the teacher",
        "seed 0: distilling encoders",
        "another, seed 1: distilling encoders",
        "another, seed 1: diagnosing and judging the student",
        "another, seed 1: ignore",
        "seed 0: diagnosing and judging the student",
        "seed 0: ignore",
    ]
    assert json.loads((out / "study.json").read_text())["summary"]["ignore"]["seeds"] == 2


def test_a_repair_that_asks_fewer_images_takes_them_from_all_over(recipe: Path, tmp_path: Path) -> None:
    study = read_study(recipe)
    with fitting_data(study.data, 6, 2) as data:
        names = [data.fit[number].path.name for number in range(6)]
        for images, kept in ((4, [0, 1, 3, 4]), (1, [0]), (9, range(6)), (None, range(6))):
            part = dataclasses.replace(study.repairs[1], images=images).part_of(data.fit)
            assert [part[number].path.name for number in range(len(part))] == [names[it] for it in kept]
    with pytest.raises(ConfigError, match=r"repairs\.images is 0"):
        dataclasses.replace(study.repairs[1], images=0)


def test_a_study_begun_before_an_entry_was_added_goes_on(recipe: Path, tmp_path: Path) -> None:
    study, out = read_study(recipe), tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, minutes=0)
    values = yaml.safe_load((out / "study.yaml").read_text())
    for repair in values["repairs"]:
        del repair["images"]
    values["repairs"][1]["images"] = 5  # the only one that is not as it is by default
    (out / "study.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(KeyboardInterrupt, match="holds what is done"):
        run_study(study, out, resume=True, minutes=0)
    with pytest.raises(TrainingError, match="begun with another recipe"):
        run_study(dataclasses.replace(study, judge_images=1), out, resume=True, minutes=0)


def test_what_was_spent_before_a_stop_is_counted(recipe: Path, tmp_path: Path) -> None:
    whole, out = read_study(recipe, ["seeds=[0]"]), tmp_path / "study"
    chosen = dataclasses.replace(whole, repairs=whole.repairs[2:])  # the one that trains

    def stop_after_the_training(what: str) -> None:
        if what == "seed 0: diagnosing and judging the student":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(chosen, out, progress=stop_after_the_training)
    kept = json.loads((out / "seed-0" / "stage-1" / "spent.json").read_text())["seconds"]
    with stopwatch(out / "seed-0" / "distil-2" / "spent.json", out):
        time.sleep(0.3)  # stands for an attempt that was stopped
    (out / "seed-0" / "distil-2" / "run").mkdir()
    run_study(chosen, out, resume=True)
    spent = {
        name: json.loads((out / "seed-0" / f"{name}.json").read_text())["spent"]["seconds"]
        for name in ("stage-1", "distil-2")
    }
    assert spent["stage-1"] == kept > 0
    assert spent["distil-2"] >= 0.3


def test_the_clock_stops_a_study_and_keeps_what_is_done(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="holds what is done"):
        run_study(read_study(recipe), tmp_path / "study", minutes=0)
    assert (tmp_path / "study" / "study.yaml").is_file()
    assert (tmp_path / "study" / "report.md").is_file()


def test_a_study_that_is_asked_to_stop_while_it_trains_finishes_the_step_and_saves_it(
    recipe: Path, tmp_path: Path
) -> None:
    stop = StopRequest()

    def ask(what: str) -> None:
        stop.signalled = what == "seed 0: distilling encoders"

    with pytest.raises(KeyboardInterrupt, match="stopped after step 1"):
        Study(read_study(recipe), tmp_path, ask, stop).run()
    assert parts(tmp_path) == ["teacher"]
    assert RunFolder(tmp_path / "seed-0" / "stage-1").checkpoint_path.is_file()


def test_a_study_that_is_asked_to_stop_while_it_judges_ends_with_the_image(
    recipe: Path, tmp_path: Path
) -> None:
    stop = StopRequest()

    def ask(what: str) -> None:
        stop.signalled = True

    with pytest.raises(KeyboardInterrupt):
        Study(read_study(recipe), tmp_path, ask, stop).run()
    assert parts(tmp_path) == []


def test_the_packaged_study_covers_all_four_repairs_with_three_seeds() -> None:
    study = read_study("presence-study")
    assert {choice.method for choice in study.repairs} == {"ignore", "calibrate", "finetune", "distil"}
    assert len(study.seeds) == 3
    assert study.fit_images <= 200


def test_another_recipe_does_not_go_on_in_the_same_folder(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(recipe), tmp_path / "study", minutes=0)
    with pytest.raises(TrainingError, match="another recipe"):
        run_study(read_study(recipe, ["judge_images=3"]), tmp_path / "study", resume=True)
    with pytest.raises(TrainingError, match="holds no study"):
        run_study(read_study(recipe), tmp_path / "data")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seeds=[]", "seeds is"),
        ("repairs=3", "must be a list"),
        ("repairs=[{name: stage-1}]", "repairs.name is 'stage-1'"),
        ("repairs=[{name: a}, {name: a}]", "of different names"),
        ("repairs=[{nam: a}]", "unknown key 'nam'"),
        ("repairs=[{name: a, method: hope}]", "repairs: a: unknown method 'hope'"),
        ("repairs=[{name: a, matching: luck}]", "repairs: a: unknown matching 'luck'"),
        ("repairs=[{name: a, method: finetune, labels: none}]", "repairs: a: finetune learns from labels"),
        ("repairs=[{name: a, method: distil, overrides: [2.stepz=1]}]", "repairs: a: .*stepz"),
        ("stage_1=[stepz=1]", "stepz"),
    ],
)
def test_a_wrong_recipe_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_study("presence-study", [override])


def test_an_unnamed_repair_is_refused() -> None:
    assert StudyRecipe().repairs == ()
    with pytest.raises(ConfigError, match="repairs.name"):
        read_study("presence-study", ["repairs=[{method: ignore}]"])

"""Smaller students of nano, taught on photographs: what is lost by halving, and what teaching brings back.

    python benchmarks/half_students.py run --data PHOTOS/objects --out runs/half --minutes 60   # goes on
    python benchmarks/half_students.py report --out runs/half

Every student of benchmarks/half_students.yaml is a study of its own (`conceptseg presence study`) in
OUT/STUDENT: all three stages of distillation, and after the first of them presence ignored, calibrated and
fine-tuned instead. Before it the student is judged as it begins, with those weights of its teacher that fit.
The `train` of DATA, in COCO form, teaches, its `valid` judges. `report` writes
benchmarks/results/half_students.json and .md: cgF1 of masks, and what share of the teacher's that is, with
intervals over the images that judge.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from conceptseg.benchmark.report import processor_name
from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.student import make_student
from conceptseg.errors import ConceptSegError, DataError
from conceptseg.evaluation.cgf1 import cgf1_of
from conceptseg.hub import find_model
from conceptseg.loading import load
from conceptseg.presence.judgement import judge_images, summed_up
from conceptseg.presence.labelled_data import fitting_data
from conceptseg.presence.study import StudyRecipe, describe_model, run_study, study_of
from conceptseg.report import markdown_table
from conceptseg.study.gains import cgf1_gain, gain_shown
from conceptseg.study.intervals import Bootstrap, Estimate
from conceptseg.study.pinned import check_weights
from conceptseg.study.table import Table
from conceptseg.train.recipe_file import read_recipe

RECIPE = Path(__file__).with_suffix(".yaml")
RESULTS = Path(__file__).resolve().parent / "results"
TEACHER, BEGUN, STAGE_1 = "teacher", "begun", "stage-1"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", choices=("run", "report"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--data", help="dataset of photographs, to run on")
    parser.add_argument("--out", type=Path, default=Path("runs/half"), help="folder of the studies")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--students", help="of the recipe, with commas between them; all where not given")
    parser.add_argument("--minutes", type=float, help="begin nothing after so long")
    given = parser.parse_args(words)
    try:
        values: dict[str, Any] = yaml.safe_load(given.recipe.read_text(encoding="utf-8"))
        if given.task == "report":
            print(report(collect(list(values["students"]), given.out, values["weights"]), given.results))
            return 0
        if given.data is None:
            raise DataError("--data is missing: the dataset of photographs to run on")
        check_weights(values["study"]["teacher"], values["weights"])
        chosen = given.students.split(",") if given.students else list(values["students"])
        stop_at = float("inf") if given.minutes is None else time.time() + 60 * given.minutes
        torch.set_num_threads(1)
        for name in chosen:
            recipe = recipe_of(values, name, given.data)
            judge_begun(recipe, given.out / name)
            left = (stop_at - time.time()) / 60
            if left > 0:
                run_study(recipe, given.out / name / "study", True, left, partial(say, name))
    except KeyboardInterrupt:
        return 0
    except (ConceptSegError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def recipe_of(values: dict[str, Any], name: str, data: str) -> StudyRecipe:
    """The study of one student.

    Raises:
        ConfigError: an entry of it is wrong.
        DataError: the recipe has no such student.
    """
    if name not in values["students"]:
        raise DataError(f"{name!r} is not in the recipe; its students are {', '.join(values['students'])}")
    lines = [
        line for part in values["students"][name] for line in ([part] if isinstance(part, str) else part)
    ]
    return study_of({**values["study"], "name": name, "stage_1": lines, "data": data})


def judge_begun(recipe: StudyRecipe, home: Path) -> None:
    """Judge the student before it learns anything, on the images that the study judges by."""
    file = home / f"{BEGUN}.json"
    if file.is_file():
        return
    say(recipe.name, "judging it as it begins")
    stage = read_recipe(DistilRecipe, "distil-1", list(recipe.stage_1))
    teacher = load_checkpoint(find_model(recipe.teacher))
    network, tokenizer, config, _ = make_student(
        teacher, recipe.student, stage.architecture, stage.resolution, stage.inherit
    )
    save_model_folder(home / BEGUN, network, tokenizer, config)
    model = load(home / BEGUN, device=recipe.device, dtype=recipe.dtype)
    with fitting_data(recipe.data, 1, recipe.judge_images, 0) as data:
        images = judge_images(model, data.judge, recipe.threshold)
    values = {
        "judgement": summed_up(images).to_dict(),
        "spent": {},
        "model": describe_model(model),
        "images": [image.to_dict() for image in images],
    }
    write_text(file, json.dumps(values, indent=2) + "\n")


def collect(students: Sequence[str], out: Path, weights: str) -> Table:
    """Counts of every image, of every model of every student that is judged.

    Raises:
        DataError: no student is judged yet.
    """
    rows: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    data = ""
    for name in students:
        home = out / name
        files = {TEACHER: home / "study" / "teacher.json", BEGUN: home / f"{BEGUN}.json"}
        if not all(file.is_file() for file in files.values()):
            continue
        asked = yaml.safe_load((home / "study" / "study.yaml").read_text(encoding="utf-8"))
        data = Path(asked["data"]).name
        seed = home / "study" / f"seed-{asked['seeds'][0]}"
        files |= {part: seed / f"{part}.json" for part in (STAGE_1, *(it["name"] for it in asked["repairs"]))}
        for part, file in files.items():
            if not file.is_file():
                continue
            judged = json.loads(file.read_text(encoding="utf-8"))
            models.append({"student": name, "part": part, **judged["model"], "spent": judged["spent"]})
            models[-1]["judgement"] = judged["judgement"]
            rows += [
                {"student": name, "part": part, "image": number, "counts": image["counts"]}
                for number, image in enumerate(judged["images"])
            ]
    if not rows:
        raise DataError(f"{out} holds no student that is judged yet; run it first")
    return Table({"data": data, "weights": weights, "processor": processor_name(), "models": models}, rows)


def report(found: Table, results: Path) -> str:
    """Write the table and its figures; returns the Markdown."""
    lines, gains = [], []
    for model in found.setup["models"]:
        name, part = model["student"], model["part"]
        if part not in (TEACHER, BEGUN, STAGE_1):
            gains.append([name, part, *(_gain(found, name, part, over) for over in (STAGE_1, "finetune"))])
        own, theirs = (found.where(student=name, part=it).column("counts") for it in (part, TEACHER))
        it = share_kept(own, theirs)
        judged, spent = model["judgement"], model["spent"]
        teacher = next(m for m in found.setup["models"] if m["student"] == name and m["part"] == TEACHER)
        lines.append([
            name, part, f"{model['gigaflops']:.2f} ({model['gigaflops'] / teacher['gigaflops']:.2f})",
            f"{100 * judged['cgf1']:.1f}", f"{judged['il_mcc']:.2f}",
            "" if part == TEACHER else f"{100 * it.value:.0f}% ({100 * it.low:.0f} to {100 * it.high:.0f})",
            f"{100 * judged['lost_to_presence']:.1f}", f"{judged['present_mean']:.1f}",
            f"{spent['cpu_seconds'] / 60:.0f}" if spent.get("cpu_seconds") else "",
        ])  # fmt: skip
    headings = [
        "student", "model", "GFLOP (of the teacher's)", "cgF1", "IL-MCC", "of the teacher's cgF1",
        "lost to presence", "logit, present", "processor minutes",
    ]  # fmt: skip
    images = 1 + max(found.column("image"))
    text = (
        f"Students of nano taught on `{found.setup['data']}`; {images} held-out photographs judge, masks, "
        f"x 100. Intervals of 95% over images. One seed. {found.setup['processor']}.\n\n"
        f"{markdown_table(headings, lines)}\n\n"
        "Gain in cgF1 by each repair, with 95% intervals:\n\n"
        f"{markdown_table(['student', 'repair', 'over stage 1', 'over fine-tuning'], gains)}"
    )
    found.save(results / "half_students.json")
    write_text(results / "half_students.md", text if text.endswith("\n") else text + "\n")
    return text


def _gain(found: Table, student: str, part: str, over: str) -> str:
    """Points of cgF1 between two models of one student, on the same images."""
    if part == over:
        return ""
    counts = (found.where(student=student, part=it).column("counts") for it in (part, over))
    it = cgf1_gain(*({0: each} for each in counts))
    return "" if it is None else gain_shown(it)


def share_kept(own: Sequence[Any], theirs: Sequence[Any]) -> Estimate:
    """cgF1 of one model over that of another, from their counts on the same images."""
    mine, other = np.array(own, np.float64), np.array(theirs, np.float64)
    draws = Bootstrap(range(len(mine)))
    return draws.of(lambda weights: cgf1_of(weights @ mine) / cgf1_of(weights @ other))


def say(student: str, part: str) -> None:
    print(f"{student}: {part}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

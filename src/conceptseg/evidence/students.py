"""Students that lost one encoder or both, and every repair of them, as one table.

The studies (`presence.study`) train and judge; here their values are collected. Rows are (student, seed,
scene) with what every model gave there, so that all comparisons are paired.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.config_file import read_config
from conceptseg.errors import DataError
from conceptseg.presence.repairs.case import RUN
from conceptseg.presence.study import StudyRecipe
from conceptseg.study.table import Table
from conceptseg.train.run_folder import RunFolder

TABLE = "students"
TEACHER, STUDENT = "teacher", "stage-1"


def collect_students(
    recipes: Mapping[str, StudyRecipe],
    studies: Path,
    out: Path,
    weights: str,
    sweep: Collection[str] = (),
) -> Path:
    """Write the table of all students whose studies are done.

    Args:
        recipes: student -> its study.
        studies: folder that holds FOLDER/STUDENT of each.
        out: folder of the tables.
        weights: digest of the teacher's.
        sweep: repairs that are one of the others at other settings, of some students; None in the rows of
            the students that are not done with them.

    Returns:
        Path of the table.

    Raises:
        DataError: no student is done with all of its repairs for any seed.
    """
    rows: list[dict[str, Any]] = []
    students: list[dict[str, Any]] = []
    for name, recipe in recipes.items():
        for seed in recipe.seeds:
            home = studies / name / f"seed-{seed}"
            parts = (STUDENT, *(choice.name for choice in recipe.repairs))
            files = {part: home / f"{part}.json" for part in parts}
            files[TEACHER] = studies / name / "teacher.json"
            there = {part: file for part, file in files.items() if file.is_file()}
            if not set(files) - set(sweep) <= set(there):
                continue
            files = there
            judged = {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items()}
            students.append(_about(name, seed, home, judged))
            for scene in range(len(judged[TEACHER]["images"])):
                of_parts = {part: values["images"][scene] for part, values in judged.items()}
                rows.append({"student": name, "seed": seed, "scene": scene, **of_parts})
    swept = [part for part in sweep if any(part in row for row in rows)]
    rows = [row | {part: row.get(part) for part in swept} for row in rows]
    if not rows:
        raise DataError(f"{studies} holds no student with all of its repairs yet; run the studies first")
    recipe = next(iter(recipes.values()))
    setup: dict[str, Any] = {
        "model": recipe.teacher,
        "weights": weights,
        "claim": TABLE,
        "pictures": recipe.data,
    }
    setup |= {"resolution": students[0]["resolution"][TEACHER], "dtype": recipe.dtype}
    setup |= {"sweep": swept, "students": students}
    path = out / f"{TABLE}-{recipe.data}.json"
    Table(setup, rows).save(path)
    return path


def _about(name: str, seed: int, home: Path, judged: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a student as a whole."""
    diagnosis = json.loads((home / "diagnosis" / "diagnosis.json").read_text(encoding="utf-8"))
    offset = read_config(home / "offset")[0].presence_calibration.offset if "offset" in judged else None
    return {
        "student": name,
        "seed": seed,
        "diagnosis": {name: diagnosis[name] for name in ("model", "teacher")},
        "memory_cosine": diagnosis["drift"].get("fusion memory", {}).get("cosine"),
        "offset": offset,
        "best_step": {part: step for part in judged if (step := _best_step(home / part / RUN)) is not None},
        "seconds": {part: values["spent"].get("cpu_seconds") for part, values in judged.items()},
        "labels": {part: values["spent"].get("labels") for part, values in judged.items()},
        "resolution": {part: values["model"]["resolution"] for part, values in judged.items()},
        "gigaflops": {part: values["model"]["gigaflops"] for part, values in judged.items()},
    }


def _best_step(run: Path) -> int | None:
    """Of a run that kept the best of its looks at images that it did not train on."""
    looks = [line for line in RunFolder(run).metrics() if line["kind"] == "validation"]
    return min(looks, key=lambda line: line["loss/presence"])["step"] if looks else None

"""What lies where in the folder of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conceptseg.exemplars.study_recipe import StudyRecipe

MEASURED, REFERENCE, RECIPE, STUDY = "measured.json", "reference.json", "recipe.json", "study.json"


def measured_cells(recipe: StudyRecipe, folder: Path) -> dict[str, dict[str, Any]]:
    """What is measured so far, by the name of the cell."""
    paths = {cell.name: folder / "runs" / cell.name / MEASURED for cell in recipe.cells()}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}

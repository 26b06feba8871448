"""The study at the smallest scale: all of its parts, a report, and a resume."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conceptseg.errors import ConfigError, ModelNotFoundError, TrainingError
from conceptseg.exemplars.few_shot import CHANGES
from conceptseg.exemplars.smoothness import roughness, steps_to
from conceptseg.exemplars.study import Study, run_study
from conceptseg.exemplars.study_recipe import Cell, load_study_recipe
from conceptseg.study.pinned import weights_digest
from conceptseg.study.shared_work import LOCKS, claim
from tests.exemplars.conftest import TINY_ALIGN

SIZES = {"layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.0}


@pytest.fixture
def recipe(tmp_path, tiny_model_folder):
    values = {
        "task": "study",
        "align": {**TINY_ALIGN, "model": str(tiny_model_folder), "train_steps": 2, "validate_every": 1},
        "encoders": [{"kind": "roi", **SIZES}, {"kind": "adaptive", "context": False, **SIZES}],
        "losses": ["none", "both"],
        "seeds": [0],
        "scenes": 2,
        "robustness_scenes": 1,
        "gap_images": 4,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_study_recipe(path)


@pytest.mark.slow
def test_a_study_trains_measures_and_compares_every_cell_and_resumes(recipe, tmp_path) -> None:
    def measured() -> dict[str, bytes]:
        files = (tmp_path / "study" / "runs").glob("*/measured.json")
        return {file.parent.name: file.read_bytes() for file in files}

    def stop_after_two(done: int, wanted: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(recipe, tmp_path / "study", progress=stop_after_two)
    first = measured()
    assert set(first) == {"roi-none-0", "roi-both-0"}
    with pytest.raises(TrainingError, match="already holds a study; go on with --resume"):
        run_study(recipe, tmp_path / "study")

    seen: list[tuple[int, int]] = []
    report = run_study(recipe, tmp_path / "study", resume=True, progress=lambda *done: seen.append(done))
    assert measured() | first == measured()  # what was measured is not measured again
    assert seen == [(2, 4), (3, 4), (4, 4)]

    cell = json.loads((tmp_path / "study" / "runs" / "roi-both-0" / "measured.json").read_text())
    assert set(cell["settings"]["held_out"]) == {"one box", "three boxes", "one positive, one negative"}
    assert set(cell["robustness"]) == set(CHANGES)
    assert cell["training"]["step_seconds"] > 0 and cell["training"]["activation_mb"] > 0
    assert cell["last_losses"]["exemplar_contrastive"] > 0 and len(cell["box_f1"]) == 2
    whole = json.loads((tmp_path / "study" / "study.json").read_text())
    assert len(whole["cells"]) == 4 and "settings" in whole["reference"]
    costs = {row["cost"]: row["measured"] for row in whole["expectations"]}
    assert costs["alignment losses: memory of gradients"] > 0
    text = report.read_text()
    assert (
        whole["weights"] == weights_digest(recipe.align.model) and f"(weights `{whole['weights']}`)" in text
    )
    assert "| roi: both less none |" in text and "adaptive-no-context less roi, none" in text
    assert re.search(
        r"roi: both less none \| [+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\] \| [^|]+ \| 2 \|", text
    )
    assert (tmp_path / "study" / "study.png").is_file()

    other = load_study_recipe(tmp_path / "study.yaml", ["scenes=4"])
    with pytest.raises(TrainingError, match="the study of another recipe"):
        run_study(other, tmp_path / "study", resume=True)


def cells_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "study.json").read_text())["cells"]


def test_several_processes_share_out_the_cells(recipe, tmp_path) -> None:
    folder, trained = tmp_path / "study", []

    class Untrained(Study):
        def measure_reference(self) -> dict[str, Any]:
            return {}

        def measure_cell(self, cell: Cell, run: Path) -> dict[str, Any]:
            trained.append(cell.name)
            if cell.name == "roi-both-0":  # another process comes while this one is at a cell
                Untrained(recipe, folder).run(resume=True)
            return {"box_f1": []}

    with claim(folder / LOCKS / "roi-none-0"):
        Untrained(recipe, folder).run()
    assert trained == ["roi-both-0", "adaptive-no-context-none-0", "adaptive-no-context-both-0"]
    assert set(cells_of(folder)) == set(trained)
    Untrained(recipe, folder).run(resume=True)
    assert trained[3:] == ["roi-none-0"] and set(cells_of(folder)) == set(trained)


def test_the_packaged_study_is_every_encoder_with_every_choice_of_losses() -> None:
    packaged = load_study_recipe("exemplar-study")
    cells = list(packaged.cells())
    assert len(cells) == 5 * 4 * 3 == len({cell.name for cell in cells})
    assert [cell.seed for cell in cells[:20]] == [0] * 20
    runs = [packaged.run_recipe(cell) for cell in cells[:4]]
    assert [run.alignment.names for run in runs] == [
        (),
        ("exemplar_contrastive",),
        ("exemplar_distillation",),
        ("exemplar_contrastive", "exemplar_distillation"),
    ]
    assert all(run.fresh and run.train_steps == packaged.align.train_steps for run in runs)


def test_a_study_without_its_conditions_is_refused(recipe, tmp_path) -> None:
    for override, message in (
        ("seeds=[1, 1]", "seeds of the study must hold at least one, and none twice"),
        ("scenes=3", "even number of scenes"),
        ("target_f1=0", "target_f1 is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_study_recipe(tmp_path / "study.yaml", [override])
    with pytest.raises(ConfigError, match="keep_features must be true"):
        run_study(
            load_study_recipe(tmp_path / "study.yaml", ["align.keep_features=false"]), tmp_path / "study"
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(TrainingError, match="is not empty and holds no study"):
        run_study(recipe, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    with pytest.raises(ModelNotFoundError):
        run_study(load_study_recipe(tmp_path / "study.yaml", ["align.model=nobody"]), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_straight_loss_is_smooth_and_a_jagged_one_is_not() -> None:
    falling = [100 - i for i in range(60)]
    jagged = [value + (5 if i % 2 else -5) for i, value in enumerate(falling)]
    assert roughness(falling) == pytest.approx(0, abs=1e-12)
    # Of 15 neighbours one more lies on the own side, so the mean moves 5 / 15 towards the other one.
    assert roughness(jagged) == pytest.approx((5 + 5 / 15) ** 2 / (sum(jagged) / 60) ** 2, rel=0.01)
    assert math.isnan(roughness([1.0] * 20))


def test_the_target_is_reached_when_the_mean_of_the_last_looks_has_it() -> None:
    curve = [[10, 0.2], [20, 0.7], [30, 0.3], [40, 0.5], [50, 0.6]]
    assert steps_to(curve, 0.39) == 30
    assert steps_to(curve, 0.45) == 40
    assert steps_to(curve, 0.7, looks=1) == 20
    assert math.isnan(steps_to(curve, 0.6))
    assert math.isnan(steps_to(curve[:2], 0.1))

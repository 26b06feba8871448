"""From the command to the page of claims, on a tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import evidence
from conceptseg.errors import ConfigError, DataError, OptionError
from conceptseg.evidence.claims import EXEMPLAR_GAP, FUSION_AND_PRESENCE, MEASUREMENTS
from conceptseg.evidence.pictures import Photographs
from conceptseg.evidence.prompt_swap import PromptSwap
from conceptseg.evidence.recipe import EvidenceRecipe, read_evidence_recipe
from conceptseg.evidence.report import BEGIN, END, NOT_YET, write_report
from conceptseg.evidence.run import EvidenceRun
from conceptseg.study.pinned import weights_digest
from conceptseg.study.table import Table
from tests.evidence.test_measurements import f2_rows


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "evidence.yaml"
    path.write_text(f"model: {tiny_model_folder}\nweights: null  # of the files\nseed: 0\n")
    return path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "claims.md"
    path.write_text(f"# Claims\n\nbefore\n{BEGIN}\nold\n{END}\nafter\n")
    return path


def test_a_run_is_pinned_resumed_and_reported(
    recipe: Path, page: Path, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    common = ["--recipe", str(recipe), "--results", str(results)]
    run = [*common, "run", "--claims", "F2,G1", "--pictures", "2", "--work", str(tmp_path / "work")]
    assert evidence.main(run) == 2 and "pins no weights" in capsys.readouterr().err
    assert evidence.main([*common, "pin"]) == 0
    assert "# of the files" in recipe.read_text()
    assert evidence.main([*run, "--minutes", "0"]) == 0
    assert "F2 on scenes: 0 of 1 pieces\n" in capsys.readouterr().out and not results.exists()
    assert evidence.main(run) == 0
    assert "F2 on scenes: 1 of 1 pieces" in capsys.readouterr().out
    first = (results / "F2-scenes.json").read_text()
    assert evidence.main([*run, "--data", str(tiles)]) == 0  # goes on with what is new
    assert "F2-scenes 0" not in capsys.readouterr().out
    assert (results / "F2-scenes.json").read_text() == first
    assert not (results / "F2-photographs.json").exists()  # tiles know too few phrases that name nothing
    table = Table.load(results / "G1-photographs.json")
    assert table.setup["pictures"] == "photographs" and table.setup["resolution"] == 96
    assert evidence.main([*common, "report", "--images", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Claims\n\nbefore\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert text.count(NOT_YET) == 17 and "**no verdict: n is below 200**" in text
    assert "| photographs |" in text and (tmp_path / "evidence-F2.png").stat().st_size > 5000
    assert "## " in text and "n is examples (pictures)" in (results / "G1.md").read_text()


def test_other_weights_and_other_work_are_refused(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work"), "--pictures", "2", "--minutes", "0"]
    recipe.write_text(recipe.read_text().replace("null", '"0123456789abcdef"'))
    common = ["--recipe", str(recipe), "--results", str(tmp_path / "results"), "run", "--claims", "F2", *work]
    assert evidence.main(common) == 2
    assert "but this study is about 0123456789abcdef" in capsys.readouterr().err
    assert evidence.main([*common, "--any-weights"]) == 0
    assert evidence.main([*common, "--any-weights", "--pictures", "4"]) == 2
    assert "wanted 2 there, 4 here" in capsys.readouterr().err
    assert evidence.main([*common, "--claims", "F9"]) == 2
    assert "no measurement of F9; choose from F2, F4" in capsys.readouterr().err


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than the rest."""
    monkeypatch.setattr("conceptseg.evidence.report.can_draw", lambda: False)


def results_of(folder: Path, weights: str, rows: int = 30) -> Path:
    setup = {"model": "tiny", "weights": weights, "resolution": 96, "dtype": "float32"}
    wide = [{**row, "scene": i} for i, row in enumerate(f2_rows(3.0, 1.0, 0.1) * 8)]
    Table(setup, wide[:rows]).save(folder / "F2-scenes.json")
    return folder


@pytest.mark.usefixtures("no_figures")
def test_verdicts_need_as_many_examples_as_the_rules_ask_for(tmp_path: Path, page: Path) -> None:
    for rows, verdict in ((199, "no verdict: n is below 200"), (200, "confirmed")):
        results = results_of(tmp_path / "results", "aa", rows)
        write_report(results, tmp_path, page, "aa")
        line = next(line for line in page.read_text().splitlines() if "[F2]" in line)
        assert f"**{verdict}**" in line and f"| {rows} |" in line
        assert re.search(r"swapped at fusion, presence logit: -3\.00 \[-3\.0\d, -(3\.00|2\.99)\]", line)
        assert "`python benchmarks/evidence.py run --claims F2 --data PHOTOS`" in line
    report = (results / "F2.md").read_text()
    assert "| no swap: difference from the ordinary answer, presence logit *(control)* |" in report


@pytest.mark.usefixtures("no_figures")
def test_tables_of_other_weights_do_not_settle_a_claim(tmp_path: Path, page: Path) -> None:
    results = results_of(tmp_path / "results", "aa")
    assert write_report(results, tmp_path, page, "bb") == [page]
    assert page.read_text().count(NOT_YET) == 19
    values = json.loads((results / "F2-scenes.json").read_text())
    values["setup"]["weights"] = "bb"
    (results / "F2-photographs.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="tables of several models"):
        write_report(results, tmp_path, page, None)
    page.write_text("no markers")
    with pytest.raises(DataError, match="needs the lines"):
        write_report(results, tmp_path, page, "bb")


def test_every_claim_has_a_number_of_its_own_and_measurements_are_of_claims() -> None:
    numbers = [claim.number for claim in (*FUSION_AND_PRESENCE, *EXEMPLAR_GAP)]
    assert len(set(numbers)) == 19 and set(MEASUREMENTS) <= set(numbers)
    assert all(it.pictures > it.least for it in MEASUREMENTS.values())


def test_the_committed_page_and_recipe_can_be_used() -> None:
    root = Path(evidence.ROOT)
    text = (root / "docs" / "claims.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    recipe = read_evidence_recipe(evidence.RECIPE)
    tables = sorted(evidence.RESULTS.glob("*.json"))
    assert all(Table.load(path).setup["weights"] == recipe.weights for path in tables)
    assert recipe.weights is None or recipe.weights == weights_digest(recipe.model)


def test_photographs_are_scenes_of_the_models_size_in_a_fixed_order(tiles: Path) -> None:
    photographs = Photographs(tiles, 4, 96)
    assert len(photographs) == 4 and photographs.scene(0).image.shape == (96, 96, 3)
    again = Photographs(tiles, 2, 96)
    assert all((again.scene(i).image == photographs.scene(i).image).all() for i in range(2))
    for number in range(4):
        found = photographs.elsewhere(number)
        if found is not None:
            assert found[1] in photographs.scene(number).absent_phrases and found[1] in found[0].families


def test_impossible_runs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no measurement of nothing"):
        EvidenceRun(EvidenceRecipe(), (), tmp_path, tmp_path)
    with pytest.raises(OptionError, match="pictures is 1"):
        EvidenceRun(EvidenceRecipe(), ("F2",), tmp_path, tmp_path, pictures=1)
    path = tmp_path / "r.yaml"
    path.write_text("modle: nano")
    with pytest.raises(ConfigError, match="modle"):
        read_evidence_recipe(path)
    assert PromptSwap().least == 200

"""The notebooks run from top to bottom, on the embedded model and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of Jupyter's own


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What a notebook prints, its tables too, and how many pictures it shows."""
    import nbformat

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("JUPYTER_PATH", str(folder))  # no kernels but that of this Python
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are kept in the file
    nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": folder}}).execute()
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}) for output in outputs]
    printed = [output.text for output in outputs if output.output_type == "stream"]
    printed += [data["text/markdown"] for data in shown if "text/markdown" in data]
    return "".join(printed), sum("image/png" in data or "image/jpeg" in data for data in shown)


def test_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, pictures = run("quickstart.ipynb", tmp_path, monkeypatch)
    assert "cup: 1 found" in printed and "24 coins" in printed and "'annotations': 24" in printed
    assert pictures == 4


def test_a_collapsed_student_is_diagnosed_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, pictures = run("presence.ipynb", tmp_path, monkeypatch)
    assert "verdict: calibrate" in printed and "of which the labels of 0 were read" in printed
    found = [line.split(":")[1].split()[0] for line in printed.splitlines() if line.startswith("  cup:")]
    assert found == ["1", "0", "1", "1"]  # teacher, student, without presence, mended
    assert pictures == 2


def test_labels_are_reviewed_and_fine_tuned_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, pictures = run("label_and_finetune.ipynb", tmp_path, monkeypatch)
    assert "'done': 16" in printed and "'open': 0" in printed and "## Before and after" in printed
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert pictures == 2

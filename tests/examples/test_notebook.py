"""The notebook runs from top to bottom, on the embedded model and without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of Jupyter's own


def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))  # no kernels but that of this Python
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "cup: 1 found" in printed and "24 coins" in printed and "'annotations': 24" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4

"""The site builds without a warning and loads nothing from other hosts; its command line is the program's.

`make docs` runs this on the site that it has built (SITE), where there is neither torch nor a conftest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_readme import ROOT

pytest.importorskip("mkdocstrings_handlers", reason="`make docs` runs this")
pytest.importorskip("material", reason="`make docs` runs this")

pytestmark = pytest.mark.slow
LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=[\"']?(https?:[^\"'\s>]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if built := os.environ.get("SITE"):
        return ROOT / built
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


def words(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 60
    loaded = {address for page in pages for address in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert loaded == set()


def test_the_reference_holds_every_command_and_the_docstrings(site: Path) -> None:
    commands = words(site / "reference" / "cli.html")
    assert "--negative-box X0,Y0,X1,Y1" in commands and "conceptseg presence repair" in commands
    assert "conceptseg segment coins.png" in commands  # the examples that --help ends in
    segmenter = words(site / "reference" / "segment.html")
    assert "max_instances" in segmenter and "Raises:" in segmenter


def test_tables_of_the_benchmarks_are_pages_and_other_files_are_named(site: Path) -> None:
    speed = (site / "speed.html").read_text(encoding="utf-8")
    assert 'href="results/sam3_speed.html"' in speed
    tuning = (site / "finetuning.html").read_text(encoding="utf-8")
    assert "its YAML (<code>src/conceptseg/recipes/finetune.yaml</code>)" in tuning

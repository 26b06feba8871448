"""Links between the pages lead somewhere, to their headings too, and the site shows every page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import conceptseg as cs
from tests.docs.test_readme import ROOT

LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:|mailto:)(?P<path>[^)\s#]*)(?:#(?P<anchor>[^)\s]+))?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MADE = {"reference/cli.md", "results/index.md", "changelog.md", "contributing.md"}  # by scripts/docs_hooks.py


def text_of(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        return "\n".join("".join(cell["source"]) for cell in cells)
    return text


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings, and the site too."""
    found: list[str] = []
    for heading in re.findall(
        r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M
    ):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.append(re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-"))
    return set(found)


def broken(page: Path) -> Iterator[str]:
    for link in LINK.finditer(CODE.sub("", text_of(page))):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            yield link[0]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `cs.load`\n\n[a](#one-csload) [b](#two) [c](gone.md) `[d](gone.md)` [e](page.md#one-csload)\n"
    )
    assert list(broken(page)) == ["[b](#two)", "[c](gone.md)"]


def test_the_navigation_of_the_site_names_every_page_once() -> None:
    named: list[str] = []

    def gather(entry: object) -> None:
        for below in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            gather(below)
        if isinstance(entry, str):
            named.append(entry)

    gather(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(named) == sorted({str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | MADE)


def test_every_public_name_is_in_the_reference() -> None:
    shown = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    packages = {"exemplars": cs.exemplars, "labelling": cs.labelling, "presence": cs.presence}
    names = [f"conceptseg.{name}" for name in cs.__all__ if not name.endswith("Error")]
    names += [f"conceptseg.{package}.{name}" for package, it in packages.items() for name in it.__all__]
    assert [name for name in names if f"::: {name}\n" not in shown] == []
    assert "::: conceptseg.errors\n" in shown

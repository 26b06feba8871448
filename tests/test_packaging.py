"""What is published: a wheel of the package alone, and a source archive that can be built and tested."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import conceptseg as cs
from conceptseg.extras import EXTRAS

ROOT = Path(__file__).parents[1]
INFO = f"conceptseg-{cs.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    with zipfile.ZipFile(path) as opened:
        yield opened


def files_of(*folders: str) -> set[str]:
    """Paths below the root of the clone, without what Python and tools leave there."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and path.suffix != ".pyc" and not path.is_relative_to(ROOT / "docs" / "images")
    }


def test_the_wheel_holds_the_package_with_its_weights_and_pages_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    package = {name for name in wheel.namelist() if not name.startswith(f"{INFO}/")}
    assert package == {name.removeprefix("src/") for name in files_of("src")}
    wanted = ("weights/nano/model.safetensors", "serving/pages/index.html", "recipes/nano.yaml", "py.typed")
    assert package.issuperset(f"conceptseg/{name}" for name in wanted)
    assert f"{INFO}/licenses/LICENSE" in wheel.namelist()


def test_the_wheel_says_its_version_and_every_extra_that_the_library_asks_for(wheel: zipfile.ZipFile) -> None:
    told = message_from_string(wheel.read(f"{INFO}/METADATA").decode())
    assert (told["Name"], told["Version"]) == ("conceptseg", cs.__version__)
    assert told["License-Expression"] == "Apache-2.0"
    extras = defaultdict(set)
    for line in told.get_all("Requires-Dist") or []:
        if found := re.match(r"([\w-]+).*; extra == '(\w+)'", line):
            extras[found[2]].add(found[1].replace("-", "_"))
    extras["serve"].remove("pydantic")  # comes with FastAPI, and is listed for its version
    assert {name: extras[name] for name in EXTRAS} == {
        name: set(packages) for name, packages in EXTRAS.items()
    }


def test_what_pypi_shows_links_to_no_file_of_the_clone(wheel: zipfile.ZipFile) -> None:
    shown = message_from_string(wheel.read(f"{INFO}/METADATA").decode()).get_payload()
    assert isinstance(shown, str)
    assert shown.startswith("# conceptseg\n") and "$ pip install conceptseg " in shown
    assert "What it cannot do (`docs/limits.md`)" in shown
    assert re.findall(r"!?\[[^\]]*\]\((?!https?:)[^)]*\)", shown) == []


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    released = re.search(
        r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert released is not None
    assert (citation["version"], citation["date-released"]) == released.groups()
    assert citation["version"] == cs.__version__


def test_the_source_archive_holds_what_a_build_and_the_tests_need(tmp_path: Path) -> None:
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= files_of("src", "tests", "benchmarks", "examples", "scripts", "docs")
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "Makefile"}
    assert not [name for name in names if name.startswith("docs/images")]  # a third of all, and not tested

"""The table of photographs on a tiny model and a few tiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks import photograph_splits


def test_each_source_gets_its_figures_and_foreign_words_are_counted(
    tiles: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiles, tmp_path / "data" / "bottles")
    out = tmp_path / "out"
    arguments = [
        "--model",
        str(model),
        "--data",
        str(tmp_path / "data"),
        "--processes",
        "1",
        "--out",
        str(out),
    ]
    photograph_splits.main(arguments)
    found = json.loads((out / "photograph_splits.json").read_text())
    assert list(found["sources"]) == ["bottles"]
    bottles = found["sources"]["bottles"]
    assert bottles["text"]["images"] == 4 and bottles["text"]["regions"] == "masks"
    assert bottles["foreign"]["asked"] == 4 * photograph_splits.FOREIGN_PER_IMAGE
    assert (out / "photograph_splits.md").is_file()


def test_objects_leave_out_the_kinds_that_have_outlines(tiles: Path, tmp_path: Path) -> None:
    for name in ("contours", "objects"):
        shutil.copytree(tiles, tmp_path / name)
    splits = photograph_splits.open_splits(tmp_path, None)
    assert len(splits["contours"]) == 4
    assert [image.phrases for image in splits["objects"]] == [{}]  # the picture that shows nothing

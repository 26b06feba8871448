"""Which files are segmented, and what their overlays are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.cli.image_paths import find_images, image_names, overlay_names
from conceptseg.errors import ImageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_stands_for_the_images_directly_in_it(tmp_path: Path) -> None:
    touch(tmp_path / "b.JPG", tmp_path / "a.png", tmp_path / "notes.txt", tmp_path / "deeper" / "c.png")
    assert find_images([tmp_path]) == [tmp_path / "a.png", tmp_path / "b.JPG"]


def test_overlays_of_an_earlier_run_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a.overlay.png")
    assert find_images([tmp_path]) == [tmp_path / "a.png"]


def test_a_file_is_taken_whatever_its_suffix_and_only_once(tmp_path: Path) -> None:
    touch(tmp_path / "picture")
    assert find_images([tmp_path / "picture", tmp_path / "picture"]) == [tmp_path / "picture"]


def test_a_missing_file_and_a_folder_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nothing.png: no such file"):
        find_images([tmp_path / "nothing.png"])
    with pytest.raises(ImageError, match="holds no image"):
        find_images([tmp_path])


def test_two_images_of_the_same_name_get_two_overlays() -> None:
    images = [Path("a/x.png"), Path("b/x.png"), Path("b/X.jpg"), Path("b/x-2.png")]
    names = overlay_names(images)
    assert len({name.lower() for name in names}) == 4
    assert names[0] == "x.overlay.png"


def test_images_are_called_by_bare_name_unless_two_share_it() -> None:
    assert image_names([Path("a/x.png"), Path("b/y.png")]) == ["x.png", "y.png"]
    assert image_names([Path("a/x.png"), Path("b/x.png")]) == ["a/x.png", "b/x.png"]

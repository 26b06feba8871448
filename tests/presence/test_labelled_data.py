"""Fitting and judging never share an image."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conceptseg.errors import DataError, OptionError
from conceptseg.presence.labelled_data import fitting_data, judging_data
from tests.evaluation.scripted import write_coco

BOX = [0, 0, 40, 48]


def coco(folder: Path, count: int) -> Path:
    return write_coco(folder, {f"{number}.png": {"coin": [BOX]} for number in range(count)})


def test_of_one_split_every_second_image_is_for_fitting(tmp_path: Path) -> None:
    with fitting_data(coco(tmp_path / "data", 5)) as parts:
        assert [image.path.name for image in parts.fit] == ["0.png", "2.png", "4.png"]
        assert [image.path.name for image in parts.judge] == ["1.png", "3.png"]
        assert parts.judge.has_masks


def test_a_training_split_is_for_fitting_and_the_held_out_one_for_judging(tmp_path: Path) -> None:
    data = coco(tmp_path / "data", 3)
    shutil.copytree(data / "valid", data / "train")
    with fitting_data(data, fit_limit=2) as parts:
        assert (parts.fit.split, len(parts.fit)) == ("train", 2)
        assert (parts.judge.split, len(parts.judge)) == ("valid", 3)


def test_scenes_are_drawn_and_thrown_away(tmp_path: Path) -> None:
    with fitting_data("scenes", fit_limit=1, judge_limit=2) as parts:
        assert (len(parts.fit), len(parts.judge)) == (1, 2)
        drawn = parts.fit[0].path
        assert drawn.is_file()
    assert not drawn.exists()


def test_a_folder_called_scenes_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    coco(Path("scenes"), 2)
    with judging_data("scenes") as dataset:
        assert [image.path.name for image in dataset] == ["0.png", "1.png"]


def test_one_image_is_too_few_for_two_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 images"), fitting_data(coco(tmp_path / "data", 1)):
        pass


def test_no_image_is_no_limit(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="limit is 0"), judging_data("scenes", limit=0):
        pass

"""Scenes on disk: readable by pycocotools, the same bytes every time, never in place of someone's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from conceptseg.data.scenes import contact_sheet, make_scenes, render_scene
from conceptseg.errors import ConceptSegError, DataError, OptionError

ANNOTATIONS = "_annotations.coco.json"


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    annotations = make_scenes(folder, 6, 3, size=96, split="held_out", image_format="png")
    assert annotations == folder / "held_out" / ANNOTATIONS
    return folder / "held_out"


def load(dataset: Path) -> Any:
    return json.loads((dataset / ANNOTATIONS).read_text())


def scene_of(record: dict[str, Any]) -> Any:
    return render_scene(record["seed"], size=96, theme=record["theme"], split="held_out")


def test_pycocotools_reads_the_masks_that_were_drawn(dataset: Path) -> None:
    coco = COCO(dataset / ANNOTATIONS)
    for image in coco.loadImgs(coco.getImgIds()):
        scene = scene_of(image)
        assert np.array_equal(np.asarray(Image.open(dataset / image["file_name"])), scene.image)
        found: dict[str, list[np.ndarray]] = {}
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            x, y, width, height = annotation["bbox"]
            rows, columns = np.nonzero(mask)
            assert (x, y, x + width, y + height) == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )
            assert annotation["area"] == mask.sum()
            assert annotation["iscrowd"] == 0
            phrase = coco.loadCats(annotation["category_id"])[0]["name"]
            found.setdefault(phrase, []).append(mask)
        assert set(found) == set(scene.phrases)
        for phrase, masks in found.items():
            assert np.array_equal(masks, [scene.objects[index].mask for index in scene.phrases[phrase]])


def test_categories_are_the_phrases_in_order(dataset: Path) -> None:
    names = [category["name"] for category in load(dataset)["categories"]]
    assert names == sorted(set(names))
    assert [category["id"] for category in load(dataset)["categories"]] == list(range(1, len(names) + 1))


def test_images_say_what_is_absent_and_what_looks_alike(dataset: Path) -> None:
    content = load(dataset)
    annotation = {it["id"]: it for it in content["annotations"]}
    for image in content["images"]:
        scene = scene_of(image)
        assert image["absent_phrases"] == scene.absent_phrases
        assert list(image["families"]) == list(scene.families)
        for family, ids in image["families"].items():
            boxes = [scene.objects[index].box_xyxy[:2] for index in scene.families[family]]
            assert [tuple(annotation[number]["bbox"][:2]) for number in ids] == boxes


def test_neighbours_share_a_theme(dataset: Path) -> None:
    themes = [image["theme"] for image in load(dataset)["images"]]
    assert themes[0::2] == themes[1::2]
    assert len(set(themes)) == 3


def test_the_number_of_workers_does_not_change_a_byte(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    make_scenes(tmp_path / "one", 26, 0, size=64, progress=lambda now, all_: done.append((now, all_)))
    make_scenes(tmp_path / "two", 26, 0, size=64, workers=2)
    assert done == [(25, 26), (26, 26)]
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "one")) == 27


def test_scenes_replace_scenes_but_nothing_else(tmp_path: Path) -> None:
    make_scenes(tmp_path, 2, 0, size=64)
    before = files(tmp_path)
    make_scenes(tmp_path, 1, 1, size=64)
    assert set(files(tmp_path)) == {"train/000000.jpg", f"train/{ANNOTATIONS}"}
    make_scenes(tmp_path, 2, 0, size=64)
    assert files(tmp_path) == before

    foreign = tmp_path / "held_out"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="does not hold scenes"):
        make_scenes(tmp_path, 1, 0, size=64, split="held_out")
    assert (foreign / "thesis.txt").read_text() == "years of work"
    make_scenes(tmp_path, 1, 0, size=64, split="held_out", overwrite=True)
    assert not (foreign / "thesis.txt").exists()


def test_a_failure_leaves_the_former_scenes_and_no_debris(tmp_path: Path) -> None:
    make_scenes(tmp_path, 2, 0, size=64)
    before = files(tmp_path)

    def fail(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path, 2, 1, size=64, progress=fail)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least one"),
        ({"workers": -1}, "one per core"),
        ({"image_format": "gif"}, "jpg or png"),
        ({"split": "test"}, "train, held_out or unseen"),
    ],
)
def test_wrong_arguments_make_no_folder(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_scenes(tmp_path / "new", **{"count": 1, "seed": 0, "size": 64, **arguments})
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConceptSegError, match="cannot write scenes"):
        make_scenes(tmp_path / "file", 1, 0, size=64)


def test_a_contact_sheet_shows_every_scene_in_its_place() -> None:
    scenes = [render_scene(seed, size=64) for seed in range(5)]
    sheet = contact_sheet(scenes, columns=3)
    assert sheet.size == (3 * 70 + 6, 2 * 102 + 6)
    outline = np.array([255, 0, 200])
    for number in range(5):
        left, top = 6 + number % 3 * 70, 6 + number // 3 * 102
        tile = np.asarray(sheet)[top : top + 64, left : left + 64].astype(int)
        drawn = np.abs(tile - outline).sum(2) > 0
        assert 0 < (~drawn).sum() < 64 * 64  # something is outlined
        assert np.array_equal(tile[drawn], scenes[number].image.astype(int)[drawn])
    with pytest.raises(OptionError, match="at least one"):
        contact_sheet([], columns=3)

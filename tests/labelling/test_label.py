"""What a labelling keeps, does again, leaves alone, and refuses."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from conceptseg.errors import ImageError, OptionError, PromptError
from conceptseg.labelling import Concept, LabelSettings, label, preview
from conceptseg.labelling.ledger import lock_folder
from conceptseg.segmenter import Segmenter
from tests.labelling.pictures import FORMATS, files_of


def coco_of(out: Path, shard: int = 0) -> dict:
    return json.loads((out / "coco" / f"{shard:05d}.json").read_text())


def test_labels_are_what_segment_answers(
    photos: Path, tmp_path: Path, settings: LabelSettings, tiny_segmenter: Segmenter
) -> None:
    apart = replace(settings, one_phrase=False)
    report = label([photos], apart, tmp_path / "out", batch_size=3)
    coco = coco_of(tmp_path / "out")
    assert [image["file_name"] for image in coco["images"]][-1] == "deep/er/009.png"
    assert [category["name"] for category in coco["categories"]] == ["red circle", "coin"]
    image = next(image for image in coco["images"] if image["file_name"] == "001.png")
    results = tiny_segmenter.segment(photos / "001.png", text=["red circle", "coin"], threshold=0.1)
    ours = [entry for entry in coco["annotations"] if entry["image_id"] == image["id"]]
    expected = [(c + 1, float(score)) for c, result in enumerate(results) for score in result.scores]
    assert [entry["category_id"] for entry in ours] == [category for category, _ in expected]
    assert [entry["score"] for entry in ours] == pytest.approx([score for _, score in expected], abs=1e-3)
    assert len({entry["id"] for entry in coco["annotations"]}) == len(coco["annotations"])
    counted = [sum(a["category_id"] == c for a in coco["annotations"]) for c in (1, 2)]
    assert [objects for objects, _ in report.objects.values()] == counted


def test_a_rerun_does_only_what_is_new(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    first = label([photos / "deep"], settings, tmp_path / "out")
    before = coco_of(tmp_path / "out")["annotations"]
    again = label([photos / "deep"], settings, tmp_path / "out")
    more = label([photos / "deep", photos / "*.png"], settings, tmp_path / "out", resume=True)
    assert [first.answered, again.answered, more.answered] == [4, 0, 6]
    assert coco_of(tmp_path / "out")["annotations"][: len(before)] == before


def test_a_changed_image_is_answered_again(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    label([photos], settings, tmp_path / "out")
    (photos / "001.png").write_bytes((photos / "002.png").read_bytes())
    os.utime(photos / "004.png", (1, 1))  # as new, but the same
    assert label([photos], settings, tmp_path / "out").answered == 1


def test_another_format_is_written_without_a_look_at_the_images(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    label([photos], settings, tmp_path / "out")
    added = label([photos], settings, tmp_path / "out", formats=FORMATS)
    label([photos], settings, tmp_path / "at_once", formats=FORMATS)
    assert added.answered == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "at_once")


def test_files_of_other_tools_lead_to_the_images(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    out = tmp_path / "out"
    label([photos], settings, out, formats=FORMATS)
    assert (out / "yolo/images/deep/er/000.png").resolve() == (photos / "deep/er/000.png").resolve()
    assert {line.split()[0] for line in (out / "yolo/labels/001.txt").read_text().splitlines()} <= {"0", "1"}
    labelme = out / "labelme/deep/er/000.json"
    seen = json.loads(labelme.read_text())["imagePath"]
    assert (labelme.parent / seen).resolve() == (photos / "deep/er/000.png").resolve()
    tasks = json.loads((out / "label-studio/00000.json").read_text())
    assert tasks[-1]["data"]["image"] == "/data/local-files/?d=deep/er/009.png"


def test_what_somebody_changed_is_kept(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    out = tmp_path / "out"
    label([photos], settings, out, formats=["labelme"])
    corrected = out / "labelme/001.json"
    corrected.write_text("corrected by hand")
    for name in ("001.png", "002.png"):
        (photos / name).write_bytes((photos / "004.png").read_bytes())
    before = (out / "labelme/002.json").read_text()
    report = label([photos], settings, out, formats=["labelme"])
    assert report.kept == [corrected] and corrected.read_text() == "corrected by hand"
    assert (out / "labelme/002.json").read_text() != before
    anew = label([photos], settings, out, formats=["labelme"], restart=True)
    assert anew.answered == 10 and corrected.read_text() == "corrected by hand"


def test_other_settings_are_refused_until_started_anew(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    label([photos], settings, tmp_path / "out")
    stricter = replace(settings.concepts[1], threshold=0.4)
    other = replace(settings, concepts=(settings.concepts[0], stricter))
    with pytest.raises(OptionError, match=r"threshold of 'coin' was 0\.1, now 0\.4.*--restart"):
        label([photos], other, tmp_path / "out")
    assert label([photos], other, tmp_path / "out", restart=True).answered == 10


def test_a_corrupt_image_is_skipped_and_named_once(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    (photos / "000.png").write_bytes(b"no image")
    for _ in range(2):
        report = label([photos], settings, tmp_path / "out", batch_size=3)
        assert report.states == {"done": 10, "left": 0, "failed": 0, "skipped": 1}
        (problem,) = report.problems
        assert problem.path.endswith("photos/000.png") and "not an image file" in problem.error


def test_an_image_that_fails_is_tried_three_times_and_again_by_the_next_run(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    (tmp_path / "list.txt").write_text("# two\nphotos/001.png\nphotos/later.png\n")
    report = label([tmp_path / "list.txt"], settings, tmp_path / "out")
    (problem,) = report.problems
    assert (problem.state, problem.error) == ("failed", "cannot be read: No such file or directory")
    (photos / "later.png").write_bytes((photos / "002.png").read_bytes())
    assert label([tmp_path / "list.txt"], settings, tmp_path / "out").states["done"] == 2


def test_examples_of_its_own_make_a_concept_beside_phrases(
    photos: Path, tmp_path: Path, settings: LabelSettings, tiny_segmenter: Segmenter
) -> None:
    shown = tiny_segmenter.exemplar(photos / "001.png", [[5, 5, 30, 25], [30, 2, 44, 20]], [1, 0])
    widget = Concept("widget", None, 0.05, shown)
    both = LabelSettings((settings.concepts[0], widget), settings.model, one_phrase=False)
    label([photos / "002.png"], both, tmp_path / "out")
    coco = coco_of(tmp_path / "out")
    result = tiny_segmenter.segment(photos / "002.png", exemplar=shown, threshold=0.05)
    scores = [a["score"] for a in coco["annotations"] if a["category_id"] == 2]
    assert scores == pytest.approx(result.scores.tolist(), abs=1e-3) and scores


def test_a_preview_is_always_made_anew_and_binds_nothing(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    for threshold in (0.1, 0.2):
        tried = replace(settings, concepts=(replace(settings.concepts[0], threshold=threshold),))
        report = preview([photos], tried, tmp_path / "out", 4)
        assert report.states["done"] == 4 and (report.folder / "contact_sheet.jpg").is_file()
    assert label([photos], settings, tmp_path / "out").answered == 10


def test_a_folder_is_one_process_s_at_a_time(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    lock = lock_folder(tmp_path / "out")
    with pytest.raises(OptionError, match="another process"):
        label([photos], settings, tmp_path / "out")
    lock.release()


def test_names_that_meet_stay_apart(photos: Path, tmp_path: Path, settings: LabelSettings) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "001.png").write_bytes((photos / "002.png").read_bytes())
    (photos / "001.jpg").write_bytes((photos / "001.png").read_bytes())
    label([photos / "001.*", twin], settings, tmp_path / "out", formats=["coco", "labelme"])
    names = [image["file_name"] for image in coco_of(tmp_path / "out")["images"]]
    assert names == ["001.jpg", "001.png", (twin / "001.png").as_posix()]
    assert sorted(path.name for path in (tmp_path / "out/labelme").iterdir()) == [
        "001-2.json", "001-3.json", "001.json",
    ]  # fmt: skip


def test_mistakes_are_told_before_anything_is_written(
    photos: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no image there"):
        label([photos, tmp_path / "empty"], settings, out)
    with pytest.raises(ImageError, match="no such file, folder or pattern"):
        label([photos, tmp_path / "nowhere"], settings, out)
    with pytest.raises(OptionError, match="no labels to go on with"):
        label([photos], settings, out, resume=True)
    with pytest.raises(OptionError, match="unknown format 'voc'"):
        label([photos], settings, out, formats=["voc"])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="'coin' is asked twice"):
        LabelSettings((settings.concepts[1], settings.concepts[1]))
    assert not out.exists()

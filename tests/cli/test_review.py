"""`conceptseg review` as a person types it; its page is tested in tests/review."""

from __future__ import annotations

import socket
from pathlib import Path

from conceptseg.review import Review
from tests.cli.finished import Run, assert_one_error
from tests.labelling.pictures import write_pictures


def test_the_accepted_are_exported_without_the_page(
    run: Run, tmp_path: Path, tiny_model_folder: Path
) -> None:
    write_pictures(tmp_path / "photos", 2)
    run("label", "photos", "--model", tiny_model_folder, "--text", "coin:0.1", "--out", "labels")
    assert_one_error(run("review", "labels", "--export"), "no image is accepted")
    with Review.open(Path("labels")) as review:
        assert review.model["name"] == str(tiny_model_folder)  # which is asked for what is missing
        review.decide(0, "accepted")
        objects = len(review.at(0).decision.objects)
    finished = run("review", "labels", "--export")
    assert finished.out.splitlines()[-1] == f"wrote labels/reviewed: 1 images, {objects} objects"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert_one_error(run("review", "labels", "--port", taken.getsockname()[1]), "cannot listen", "in use")


def test_a_folder_without_labels_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert_one_error(run("review", "photos"), "photos holds no labels", "conceptseg label")

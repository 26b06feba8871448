"""The review over HTTP, as its page asks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptseg.review import Review
from tests.review.conftest import Page
from tests.serving.conftest import assert_problem


def test_the_page_and_its_files_come_from_here(page: Page) -> None:
    shown = page.client.get("/")
    assert (
        "conceptseg review" in shown.text and "default-src 'self'" in shown.headers["content-security-policy"]
    )
    assert "http" not in shown.text.replace("http-equiv", "")
    assert page.client.get("/static/review.js").status_code == 200


def test_images_are_walked_through_and_decided(page: Page, review: Review) -> None:
    overview = page.get("/review")
    assert [phrase["name"] for phrase in overview["phrases"]] == ["red circle", "coin"]
    assert (overview["images"], overview["first"]) == (6, 0)
    first = page.get("/review/images/0")
    assert first["state"] == "open" and first["objects"] and len(first["presence"]) == 2
    accepted = page.post("/review/images/0", state="accepted")
    assert (accepted["state"], accepted["next"], accepted["counts"]["open"]) == ("accepted", 1, 5)
    page.post("/review/images/1", state="rejected")
    assert page.get("/review")["first"] == 2
    assert page.get("/review/images/5/next") == {"place": 2}
    assert review.counts() == {"open": 4, "accepted": 1, "rejected": 1}
    back = page.post("/review/undo")
    assert (back["place"], back["state"], back["redo"]) == (1, "open", True)
    assert page.post("/review/redo")["state"] == "rejected"


def test_the_picture_is_the_file_or_what_a_browser_can_show(page: Page, review: Review) -> None:
    path = Path(review.at(0).image.path)
    answer = page.client.get("/review/images/0/file")
    assert (answer.headers["content-type"], answer.content) == ("image/png", path.read_bytes())


def test_a_tiff_is_shown_as_png() -> None:
    from conceptseg.review.endpoints import _for_browsers

    file, pixels = io.BytesIO(), np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(pixels).save(file, format="TIFF")
    kind, content = _for_browsers(file.getvalue())
    assert kind == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


def test_objects_are_deleted_and_what_the_model_answers_is_added(page: Page) -> None:
    before = page.get("/review/images/0")
    for one in before["objects"]:
        after = page.client.delete(f"/review/images/0/objects/{one['key']}").json()
    assert after["objects"] == []
    found = page.post("/review/images/0/suggestions", phrase=1, text="coin")
    assert found["objects"] and all(one["phrase"] == 1 for one in found["objects"])
    added = page.post("/review/images/0/objects", id=found["id"], chosen=[0])
    (mine,) = added["objects"]
    assert mine["added"] and mine["counts"] == found["objects"][0]["counts"]
    again = page.post("/review/images/0/suggestions", phrase=1, text="coin")
    assert mine["counts"] not in [one["counts"] for one in again["objects"]]  # it is labelled now
    assert page.post("/review/undo")["objects"] == []


def test_of_what_boxes_find_the_best_fitting_is_wanted(page: Page) -> None:
    for one in page.get("/review/images/0")["objects"]:
        page.client.delete(f"/review/images/0/objects/{one['key']}")
    any_of_them = page.post("/review/images/0/suggestions", phrase=0, boxes=[[8, 4, 30, 26]])
    left, top, width, height = any_of_them["objects"][0]["bbox"]
    box = [max(left, 0), max(top, 0), min(left + width, 48), min(top + height, 32)]
    found = page.post("/review/images/0/suggestions", phrase=0, boxes=[box])
    assert sum(one["wanted"] for one in found["objects"]) <= 1


def test_export_says_where_and_how_many(page: Page, labels: Path) -> None:
    assert_problem(page.client.post("/review/export"), 422, "no image is accepted")
    page.post("/review/images/2", state="accepted")
    written = page.post("/review/export")
    assert (written["folder"], written["images"]) == (str(labels / "reviewed"), 1)


def test_mistakes_are_problems(page: Page) -> None:
    assert_problem(page.client.get("/review/images/6"), 404, "no image 6", "there are 6")
    assert_problem(page.client.get("/review/images/-1/file"), 404, "no image -1")
    assert_problem(page.client.get("/review/images/..%2f..%2fetc/file"), 404)
    assert_problem(page.client.get("/review/images/file:etc"), 422, "place")
    assert_problem(page.client.post("/review/images/0", json={"state": "maybe"}), 422, "state")
    assert_problem(page.client.delete("/review/images/0/objects/999"), 404, "no object 999")
    assert_problem(page.client.post("/review/undo"), 409, "nothing to undo")
    ask = page.client.post
    assert_problem(ask("/review/images/0/suggestions", json={"phrase": 2}), 422, "no phrase 2")
    assert_problem(ask("/review/images/0/suggestions", json={"phrase": 0, "text": " "}), 422, "text")
    assert_problem(ask("/review/images/0/suggestions", json={"phrase": 0, "labels": [1]}), 422, "labels")
    assert_problem(
        ask("/review/images/0/suggestions", json={"phrase": 0, "path": "/etc/passwd"}), 422, "path"
    )
    assert_problem(ask("/review/images/0/objects", json={"id": "x", "chosen": [0]}), 404, "ask again")
    found = page.post("/review/images/0/suggestions", phrase=1, text="coin")
    add = {"id": found["id"], "chosen": [len(found["objects"])]}
    assert_problem(ask("/review/images/0/objects", json=add), 422, "choose")
    assert_problem(ask("/review/images/1/objects", json={**add, "chosen": [0]}), 404, "ask again")


@pytest.mark.parametrize("headers", [{"Host": "labels.example"}, {"Origin": "https://evil.example"}])
def test_other_names_and_other_pages_are_refused(page: Page, headers: dict[str, str]) -> None:
    answer = page.client.post("/review/images/0", json={"state": "accepted"}, headers=headers)
    assert answer.status_code in (400, 403)
    assert page.get("/review")["counts"]["accepted"] == 0

"""The page of the review in a real browser, by keys alone."""

from __future__ import annotations

import os

import httpx
import pytest
from PIL import Image

from conceptseg.labelling import Concept, LabelSettings, ModelChoice, label
from conceptseg.loading import load
from conceptseg.review import Review
from conceptseg.review.app import make_review_app
from tests.serving.conftest import MINUTE, running, until_ready
from tests.serving.page_cases import COINS, WAIT, expect, opened

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nano():
    return load("nano")


@pytest.fixture
def review(tmp_path, nano):
    """Two photographs, on which one phrase finds coins and the other nothing."""
    photos = tmp_path / "photos"
    photos.mkdir()
    coins = Image.open(COINS)
    coins.save(photos / "coins.png")
    coins.crop((0, 0, 192, 303)).save(photos / "left_half.png")
    settings = LabelSettings(
        (Concept("coin", "coin"), Concept("motorcycle", "motorcycle")), ModelChoice("nano")
    )
    label([photos], settings, tmp_path / "labels", segmenter=nano)
    with Review.open(tmp_path / "labels") as review:
        yield review


@pytest.fixture
def url(review, nano):
    with running(make_review_app(review, lambda: nano, "nano")) as url:
        with httpx.Client(base_url=url, timeout=MINUTE) as client:
            until_ready(client)
        yield url


@pytest.fixture
def page(browser, url):
    with opened(browser, url) as page:
        expect(page.locator("#canvas")).to_be_focused(timeout=WAIT)  # where keys go
        yield page


def shows(page, selector, text):
    expect(page.locator(selector)).to_contain_text(text, timeout=WAIT)


def test_keys_alone_decide_delete_add_undo_and_export(page, review):
    press = page.keyboard.press
    first = review.at(0)
    count = len(first.decision.objects)
    assert count > 3
    shows(page, "#name", first.image.name)
    shows(page, "#objects", f"{count} labelled")

    press("]")
    press("]")
    press("Delete")
    shows(page, "#objects", f"{count - 1} labelled")
    gone = first.decision.objects[1]
    assert gone not in review.at(0).decision.objects  # saved before it shows
    press("u")
    shows(page, "#objects", f"{count} labelled")
    press("y")
    shows(page, "#objects", f"{count - 1} labelled")

    press("p")  # the phrase of the label, asked again
    press("Enter")
    shows(page, "#suggestions", "1: ")
    expect(page.locator("#suggestions input").first).to_be_focused(timeout=WAIT)
    if not page.locator("#suggestions input").first.is_checked():
        press("Space")
    press("Enter")
    expect(page.locator("#suggestions")).to_be_hidden(timeout=WAIT)
    assert review.at(0).decision.objects[-1].added

    press("a")
    shows(page, "#name", review.at(1).image.name)
    shows(page, "#decided", "1 accepted, 0 rejected, 1 open")
    press("r")
    shows(page, "#status", "Every image is decided")
    press("Control+z")
    shows(page, "#decided", "1 accepted, 0 rejected, 1 open")
    press("ArrowLeft")
    shows(page, "#state", "accepted")
    press("n")
    shows(page, "#name", review.at(1).image.name)
    press("e")
    shows(page, "#message", "Wrote 1 images")


def test_a_box_adds_the_object_in_it_and_a_click_chooses_one(page, review):
    frame = page.locator("#canvas").bounding_box()
    height, width = review.at(0).size_hw
    scale = 0.96 * min(frame["width"] / width, frame["height"] / height)
    left = frame["x"] + (frame["width"] - width * scale) / 2
    top = frame["y"] + (frame["height"] - height * scale) / 2
    largest = max(review.at(0).decision.objects, key=lambda one: one.area)
    x0, y0, w, h = largest.bbox
    page.mouse.click(left + (x0 + w / 2) * scale, top + (y0 + h / 2) * scale)
    expect(page.locator("#objects [aria-pressed=true]")).to_have_count(1, timeout=WAIT)
    page.keyboard.press("Delete")
    expect(page.locator("#undo")).to_be_enabled(timeout=WAIT)
    assert largest not in review.at(0).decision.objects

    page.keyboard.press("b")
    page.mouse.move(left + x0 * scale, top + y0 * scale)
    page.mouse.down()
    page.mouse.move(left + (x0 + w) * scale, top + (y0 + h) * scale, steps=4)
    page.mouse.up()
    expect(page.locator("#suggestions")).to_be_visible(timeout=WAIT)
    expect(page.locator("#suggestions input:checked")).to_have_count(1, timeout=WAIT)
    page.keyboard.press("Enter")
    expect(page.locator("#suggestions")).to_be_hidden(timeout=WAIT)
    added = review.at(0).decision.objects[-1]
    assert added.added and abs(added.bbox[0] - x0) < 8 and abs(added.bbox[2] - w) < 8


def test_it_fits_a_phone(browser, url):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(WAIT)
    page.goto(url)
    shows(page, "#objects", "labelled")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


if os.environ.get(
    "CONCEPTSEG_SCREENSHOTS"
):  # CONCEPTSEG_SCREENSHOTS=docs/images pytest tests/review/page_cases.py

    @pytest.mark.parametrize(("name", "size"), [("review", (1280, 800)), ("review_phone", (390, 844))])
    def test_screenshots(browser, url, name, size):
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.set_default_timeout(WAIT)
        page.goto(url)
        expect(page.locator("#canvas")).to_be_focused(timeout=WAIT)
        page.keyboard.press("]")
        expect(page.locator("#objects [aria-pressed=true]")).to_have_count(1, timeout=WAIT)
        page.wait_for_timeout(500)
        page.screenshot(path=f"{os.environ['CONCEPTSEG_SCREENSHOTS']}/{name}.png")

"""The page in a real browser: headless Chromium, by Playwright."""

import contextlib
import io
import json
import os
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from conceptseg.loading import load
from conceptseg.serving.app import make_app
from conceptseg.serving.settings import Settings
from tests.serving.conftest import MINUTE, running, until_ready

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect

COINS = Path(__file__).parents[2] / "src" / "conceptseg" / "assets" / "coins.png"
COIN = (189, 170, 237, 217)  # one of the 24
WAIT = 1000 * MINUTE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url():
    with running(make_app(lambda: load("nano"), "nano", Settings())) as url:
        with httpx.Client(base_url=url, timeout=MINUTE) as client:
            until_ready(client)
        yield url


@contextlib.contextmanager
def opened(browser, url):
    """A page, which must end without an error and without having asked another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    errors, hosts = [], set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(url)
    yield page
    assert errors == [] and hosts <= {url.split("/")[2], ""}
    context.close()


@pytest.fixture
def page(browser, url):
    with opened(browser, url) as page:
        expect(page.locator("#model")).to_contain_text("nano", timeout=WAIT)
        yield page


def open_coins(page):
    page.set_input_files("#file", COINS)
    expect(page.locator("#empty")).to_be_hidden()


def find(page, phrase):
    page.fill("#phrase", phrase)
    page.press("#phrase", "Enter")


def drag(page, start, end):
    """From one pixel of the coins to another, with the view as it is after opening."""
    frame = page.locator("#canvas").bounding_box()
    scale = 0.96 * min(frame["width"] / 384, frame["height"] / 303)
    left = frame["x"] + (frame["width"] - 384 * scale) / 2
    top = frame["y"] + (frame["height"] - 303 * scale) / 2
    page.mouse.move(left + start[0] * scale, top + start[1] * scale)
    page.mouse.down()
    page.mouse.move(left + end[0] * scale, top + end[1] * scale, steps=4)
    page.mouse.up()


def prompt_after(page, action):
    """The prompt that an action leads to."""
    with page.expect_request("**/segment") as sent:
        action()
    return json.loads(sent.value.post_data)


def status(page, text):
    expect(page.locator("#status")).to_contain_text(text, timeout=WAIT)


def downloaded(page, kind):
    with page.expect_download() as download:
        page.click(f"[data-download={kind}]")
    return download.value.path().read_bytes()


def test_phrases_find_objects_that_can_be_filtered_hidden_and_downloaded(page):
    open_coins(page)
    find(page, "coin")
    status(page, "24 found above 0.50")
    expect(page.locator(".gauge")).to_contain_text("%")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#threshold").fill("1")
    status(page, "Nothing above this score")
    page.locator("#threshold").fill("0.5")
    page.locator("input[value=ignore]").check()
    expect(page.locator(".gauge")).to_contain_text("ignored")
    status(page, "24 found")
    assert asked == []  # all of that without a request
    page.locator("[data-key='0-0']").uncheck()
    coco = json.loads(downloaded(page, "coco"))
    assert len(coco["annotations"]) == 23 and coco["images"][0]["file_name"] == "coins.png"
    assert len(downloaded(page, "yolo").splitlines()) == 23
    assert len(json.loads(downloaded(page, "labelme"))["shapes"]) >= 23
    assert len(json.loads(downloaded(page, "label_studio"))[0]["predictions"][0]["result"]) >= 23
    overlay = np.asarray(Image.open(io.BytesIO(downloaded(page, "png"))).convert("RGB")).astype(int)
    assert overlay.shape == (303, 384, 3)
    coloured = np.ptp(overlay, axis=2) > 20  # the photograph is grey
    shown = page.locator("[data-key='0']")
    shown.uncheck()
    plain = np.asarray(Image.open(io.BytesIO(downloaded(page, "png"))).convert("RGB")).astype(int)
    assert 0.1 < coloured.mean() < 0.6 and (np.ptp(plain, axis=2) > 20).mean() == 0


def test_boxes_are_drawn_moved_resized_deleted_undone_and_redone(page):
    open_coins(page)
    page.click("[data-tool=like]")
    drawn = prompt_after(page, lambda: drag(page, COIN[:2], COIN[2:]))
    np.testing.assert_allclose(drawn["boxes"], [COIN], atol=1)
    assert drawn["labels"] == [1] and drawn["text"] is None
    status(page, "24 found")
    page.click("[data-tool=unlike]")
    both = prompt_after(page, lambda: drag(page, (300, 150), (330, 180)))
    assert both["labels"] == [1, 0]
    page.click("[data-tool=move]")
    moved = prompt_after(page, lambda: drag(page, (315, 165), (305, 175)))
    np.testing.assert_allclose(moved["boxes"][1], [290, 160, 320, 190], atol=1.5)
    larger = prompt_after(page, lambda: drag(page, (320, 190), (330, 195)))
    np.testing.assert_allclose(larger["boxes"][1], [290, 160, 330, 195], atol=2)
    assert prompt_after(page, lambda: page.click("#delete"))["labels"] == [1]
    assert prompt_after(page, lambda: page.keyboard.press("Control+z"))["boxes"] == larger["boxes"]
    assert prompt_after(page, lambda: page.click("#undo"))["boxes"] == moved["boxes"]
    assert prompt_after(page, lambda: page.keyboard.press("Control+Shift+z"))["boxes"] == larger["boxes"]
    status(page, "found")


def test_keys_alone_are_enough(page):
    open_coins(page)
    page.locator("#canvas").focus()
    page.keyboard.press("2")
    drawn = prompt_after(page, lambda: page.keyboard.press("Enter"))
    moved = prompt_after(page, lambda: page.keyboard.press("ArrowRight"))
    assert moved["boxes"][0][0] > drawn["boxes"][0][0] and moved["boxes"][0][1] == drawn["boxes"][0][1]
    wider = prompt_after(page, lambda: page.keyboard.press("Shift+ArrowRight"))
    assert wider["boxes"][0][2] > moved["boxes"][0][2] and wider["boxes"][0][0] == moved["boxes"][0][0]
    page.keyboard.press("Delete")
    status(page, "Type a phrase")
    page.keyboard.press("+")
    page.keyboard.press("0")


def test_an_example_on_one_image_is_found_in_another(page, tmp_path):
    other = tmp_path / "turned.png"
    Image.open(COINS).transpose(Image.Transpose.ROTATE_180).save(other)
    open_coins(page)
    page.click("[data-tool=like]")
    drag(page, COIN[:2], COIN[2:])
    status(page, "24 found")
    with page.expect_file_chooser() as chooser:
        page.click("#other")
    sent = prompt_after(page, lambda: chooser.value.set_files(other))
    assert sent["exemplar"] and sent["boxes"] is None and sent["text"] is None
    status(page, "found above 0.50")  # how many is the model's matter
    expect(page.locator("#examples")).to_contain_text("1 example on coins.png")


def test_an_image_is_dropped_or_pasted(page):
    content = list(COINS.read_bytes())
    for event in ("drop", "paste"):
        page.evaluate(
            """([name, content]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(content)], "coins.png", { type: "image/png" }));
              const event = name === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
              document.getElementById("drop").dispatchEvent(event);
            }""",
            [event, content],
        )
        expect(page.locator("#empty")).to_be_hidden()
        status(page, "Type a phrase")


def test_every_error_is_a_clear_message(page):
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    expect(page.locator("#message")).to_contain_text("notes.txt is not an image")
    open_coins(page)
    page.click("[data-tool=like]")
    page.route("**/segment", lambda route: route.abort())
    find(page, "coin")
    expect(page.locator("#message")).to_contain_text("does not answer")
    page.unroute("**/segment")
    busy = {"detail": "all places in the queue are taken; ask again later"}
    page.route("**/segment", lambda route: route.fulfill(status=503, json=busy, headers={"Retry-After": "3"}))
    page.click("#find")
    expect(page.locator("#message")).to_contain_text("ask again later (in 3 s)")
    page.unroute("**/segment")
    page.click("#find")
    status(page, "24 found")
    expect(page.locator("#message")).to_be_hidden()


def test_a_key_is_asked_for(browser, tiny_segmenter):
    app = make_app(lambda: tiny_segmenter, "tiny", Settings(api_key="a-long-secret"))
    with running(app) as url:
        page = browser.new_page()
        page.set_default_timeout(WAIT)
        page.goto(url)
        expect(page.locator("#message")).to_contain_text("API key", timeout=WAIT)
        page.fill("#key", "a-long-secret")
        page.press("#key", "Enter")
        expect(page.locator("#model")).to_contain_text("tiny", timeout=WAIT)
        expect(page.locator("#key-form")).to_be_hidden()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_both_colour_schemes(browser, url, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    open_coins(page)
    find(page, "coin")
    status(page, "24 found")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in paper[4:-1].split(",")) / 3
    assert (brightness > 200) == (scheme == "light")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    context.close()


def test_the_reference_is_drawn_from_openapi(page, url):
    page.goto(f"{url}/docs")
    expect(page.locator("#reference")).to_contain_text("POST /v1/segment", timeout=WAIT)
    expect(page.locator("#Prompt")).to_contain_text("mask_format")


if os.environ.get(
    "CONCEPTSEG_SCREENSHOTS"
):  # CONCEPTSEG_SCREENSHOTS=docs/images pytest tests/serving/page_cases.py

    @pytest.mark.parametrize(("name", "size"), [("page", (1280, 800)), ("page_phone", (390, 844))])
    def test_screenshots(browser, url, name, size):
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.goto(url)
        open_coins(page)
        find(page, "coin")
        status(page, "24 found")
        page.screenshot(path=f"{os.environ['CONCEPTSEG_SCREENSHOTS']}/{name}.png")

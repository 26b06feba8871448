"""A Space of Hugging Face, or a page on this machine: `pip install gradio`, `python examples/space/app.py`.

Type phrases, with commas between them, or click two corners of a box around an example, or both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

import conceptseg as cs
from conceptseg.plots import draw_results

MODEL = os.environ.get("CONCEPTSEG_MODEL", "nano")
PHOTOGRAPHS = Path(cs.__file__).parent / "assets"
EXAMPLES = [("coins.png", "coin"), ("coffee.jpg", "cup, spoon"), ("astronaut.jpg", "person, helmet")]

segmenter = cs.load(MODEL)


def find(image: Image.Image | None, text: str, corners: Sequence[tuple[int, int]], threshold: float) -> Any:
    """The picture with what was found, and a row for each phrase."""
    phrases = [phrase.strip() for phrase in text.split(",") if phrase.strip()]
    boxes = boxes_of(corners)
    if image is None:
        raise gr.Error("Choose an image first.")
    if not phrases and not boxes:
        raise gr.Error("Type a phrase, or click two corners of a box around an example.")
    try:
        results = segmenter.segment(
            image, text=phrases or ["visual"], boxes=boxes or None, threshold=threshold
        )
    except cs.ConceptSegError as error:
        raise gr.Error(str(error)) from error
    rows = [[result.phrase, len(result), round(result.presence, 3), best(result)] for result in results]
    return draw_results(results), rows


def best(result: cs.Result) -> float | None:
    return round(float(result.scores[0]), 3) if len(result) else None


def boxes_of(corners: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Every two clicks are a box; a last one alone is not yet."""
    pairs = zip(corners[::2], corners[1::2], strict=False)
    boxes = [[min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])] for a, b in pairs]
    return [box for box in boxes if box[2] > box[0] and box[3] > box[1]]


def click(
    image: Image.Image, corners: list[tuple[int, int]], event: gr.SelectData
) -> tuple[list[tuple[int, int]], str]:
    corners = [*corners, (int(event.index[0]), int(event.index[1]))]
    return corners, told(corners)


def told(corners: Sequence[tuple[int, int]]) -> str:
    boxes = boxes_of(corners)
    waiting = f"; first corner at {corners[-1]}, click the other" if len(corners) % 2 else ""
    return f"{len(boxes)} example box{'' if len(boxes) == 1 else 'es'}{waiting}"


with gr.Blocks(title="conceptseg") as demo:
    gr.Markdown("# conceptseg\nEvery object that a phrase or an example box means.")
    corners = gr.State([])
    with gr.Row():
        with gr.Column():
            image = gr.Image(type="pil", label="Image; click two corners of a box around an example")
            clicked = gr.Markdown(told([]))
            text = gr.Textbox(label="Phrases", placeholder="coin, red circle")
            threshold = gr.Slider(0.05, 0.95, value=0.5, step=0.05, label="Score above")
            with gr.Row():
                ask = gr.Button("Find", variant="primary")
                clear = gr.Button("Forget boxes")
        with gr.Column():
            found = gr.Image(label="Found", interactive=False)
            table = gr.Dataframe(headers=["phrase", "found", "presence", "best score"], interactive=False)
    gr.Examples([[str(PHOTOGRAPHS / name), phrases] for name, phrases in EXAMPLES], [image, text])
    asked = [image, text, corners, threshold]
    gr.on([ask.click, text.submit], find, asked, [found, table], api_name="find")
    image.select(click, [image, corners], [corners, clicked], api_name=False)
    gr.on(
        [clear.click, image.upload, image.clear],
        lambda: ([], told([])),
        None,
        [corners, clicked],
        api_name=False,
    )

if __name__ == "__main__":
    demo.launch()

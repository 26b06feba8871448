"""One scene before and after a repair of presence: from "nothing found" to masks.

    conceptseg presence repair --model runs/one/model --method calibrate --labels none --teacher nano \\
        --data scenes --out runs/repaired
    python benchmarks/presence_repair.py --before runs/one/model --after runs/repaired

Asks both models every phrase of held-out scenes, and counts: phrases with objects that go from nothing found
to every object found and nothing false, those that stay without an answer, and absent phrases that are
answered before and after. An object is found when a detection of its own overlaps it with a mask IoU of at
least 0.5. Draws the scene with the most objects that came back. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment

import conceptseg as cs
from conceptseg.data.concept_data import open_dataset
from conceptseg.data.concept_image import ConceptImage
from conceptseg.data.scenes import make_scenes
from conceptseg.evaluation.regions import region_iou

if TYPE_CHECKING:
    from conceptseg.result import Result
    from conceptseg.segmenter import Segmenter

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "presence_repair.png"
MASK_IOU = 0.5
ENLARGED = 2
STRIP = 22  # pixels of text above each picture


@dataclass(frozen=True)
class Pair:
    """One phrase of one scene, asked before and after."""

    before: Result
    after: Result
    objects: int  # 0: the phrase is absent
    right: bool  # after the repair every object is found, and nothing else


def ask(before: Segmenter, after: Segmenter, image: ConceptImage) -> list[Pair]:
    """Every phrase that is known to be present or absent."""
    phrases = [*image.phrases, *image.absent_phrases]
    old, new = (model.segment(image.path, text=phrases) for model in (before, after))
    return [
        Pair(a, b, len(image.phrases.get(phrase, ())), _right(b, image))
        for phrase, a, b in zip(phrases, old, new, strict=True)
    ]


def count(pairs: Sequence[Pair]) -> list[tuple[str, int]]:
    """What the repair did, in words and numbers."""
    present = [it for it in pairs if it.objects]
    absent = [it for it in pairs if not it.objects]
    silent = [it for it in present if not len(it.before.scores)]
    return [
        ("phrases with objects", len(present)),
        ("of them nothing found before", len(silent)),
        ("of these every object found after, and nothing false", sum(it.right for it in silent)),
        ("still nothing found", sum(not len(it.after.scores) for it in silent)),
        ("absent phrases", len(absent)),
        ("of them answered before", sum(bool(len(it.before.scores)) for it in absent)),
        ("answered after", sum(bool(len(it.after.scores)) for it in absent)),
    ]


def draw(pair: Pair) -> Image.Image:
    """Both answers side by side; the overlays say what was asked and how sure presence was."""
    panels = []
    for name, result in (("before", pair.before), ("after", pair.after)):
        picture = result.plot()
        picture = picture.resize((ENLARGED * picture.width, ENLARGED * picture.height))
        panel = Image.new("RGB", (picture.width, picture.height + STRIP), "white")
        panel.paste(picture, (0, STRIP))
        ImageDraw.Draw(panel).text((4, 5), name, fill="black")
        panels.append(panel)
    sheet = Image.new("RGB", (sum(it.width for it in panels) + 8, panels[0].height), "white")
    sheet.paste(panels[0], (0, 0))
    sheet.paste(panels[1], (panels[0].width + 8, 0))
    return sheet


def _right(result: Result, image: ConceptImage) -> bool:
    """Detections and objects correspond one to one, and there are some."""
    objects = [it.rle(image.height, image.width) for it in image.phrases.get(result.phrase, ())]
    if not objects or len(objects) != len(result.masks):
        return False
    iou = region_iou(result.compact_masks.rles(), objects, "masks")
    rows, columns = linear_sum_assignment(-iou)
    return bool((iou[rows, columns] >= MASK_IOU).all())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True, help="the model that finds nothing")
    parser.add_argument("--after", required=True, help="the repaired model")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    models = cs.load(options.before), cs.load(options.after)
    with tempfile.TemporaryDirectory() as folder:
        make_scenes(Path(folder) / "scenes", options.scenes, seed=1, split="held_out")
        dataset = open_dataset(Path(folder) / "scenes", "held_out")
        pairs = [pair for image in dataset for pair in ask(*models, image)]
        print("| | pairs |\n| --- | ---: |")
        for words, number in count(pairs):
            print(f"| {words} | {number:,} |")
        back = [it for it in pairs if it.right and not len(it.before.scores)]
        if not back:
            sys.exit("no phrase went from nothing found to every object found; no picture was drawn")
        # Of those with most objects the one that was most surely refused.
        shown = max(back, key=lambda it: (min(it.objects, 4), -it.before.presence))
        options.picture.parent.mkdir(parents=True, exist_ok=True)
        draw(shown).save(options.picture)
    print(f"wrote {options.picture}")


if __name__ == "__main__":
    main()

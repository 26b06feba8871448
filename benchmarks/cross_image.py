"""An example on one image, the objects on another: concept tokens against the canvas trick.

    python benchmarks/cross_image.py --model nano --targets 40 --nuclei FOLDER

Three ways to ask, each with 1, 3 and 5 examples, every example on another image:

tokens         `segmenter.exemplar` on each image, pooled, then `segment(other, exemplar=kind)`
canvas         all images pasted on one canvas, examples as boxes on it; the canvas has the model's resolution
canvas, large  the same at a resolution at which objects keep their size

and, as what could be reached, one example box on the searched image itself. On scenes there are as many
examples of families that the searched scene does not show; nuclei are in every image, so only F1 says
anything there.
Everything is chosen by seed. Writes benchmarks/results/NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import conceptseg as cs
from conceptseg.data.concept_data import open_dataset
from conceptseg.data.scene_questions import could_be_confused
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.exemplars.gap_pictures import ShownImage, ShownObject, images_of_dataset, images_of_scenes
from conceptseg.images import Pixels
from conceptseg.result import Result
from conceptseg.segmenter import EncodedImage, Segmenter

SHOTS = (1, 3, 5)
THRESHOLD = 0.5
SCENES_PER_THEME = 6
LEAST_IMAGES = 3  # that the five examples come from
WAYS = ("tokens", "canvas", "canvas, large")


@dataclass(frozen=True)
class Case:
    """One concept to be found in one image, and examples of it on others."""

    searched: int  # image
    concept: str
    examples: list[tuple[int, ShownObject]]  # at most max(SHOTS), of as many images as there are


@dataclass
class Row:
    """One way to ask, with one number of examples."""

    metrics: ConceptEvaluator = field(default_factory=lambda: ConceptEvaluator("masks", THRESHOLD))
    seconds: float = 0.0
    asked: int = 0

    def add(self, result: Result, objects: Sequence[ShownObject], seconds: float) -> None:
        height, width = result.image_size
        masks = [it.mask for it in objects if it.mask is not None]
        self.metrics.add(
            ConceptPair(
                scores=result.scores,
                predicted_masks=result.compact_masks.rles(),
                target_masks=np.stack(masks) if masks else np.zeros((0, height, width), bool),
                predicted_boxes=result.boxes,
                target_boxes=np.array([it.box_xyxy for it in objects], dtype=float).reshape(-1, 4),
            )
        )
        self.seconds += seconds
        self.asked += 1


def scene_cases(targets: int, split: str) -> tuple[list[ShownImage], list[Case]]:
    """One case of a family that the searched scene shows, and one of a family that it does not, per theme."""
    images: list[ShownImage] = []
    cases: list[Case] = []
    theme = 0
    while len(cases) < 2 * targets:
        numbers = range(theme * SCENES_PER_THEME, (theme + 1) * SCENES_PER_THEME)
        scenes = [render_scene(number, theme=theme, split=split) for number in numbers]
        theme += 1
        shown = list(images_of_scenes(scenes))
        if len(shown) < SCENES_PER_THEME:
            continue
        first, here = len(images), {it.concept for it in shown[0].objects}
        rng = np.random.default_rng([7, theme])
        chosen: list[Case] = []
        for present in (True, False):
            for concept in sorted({it.concept for image in shown[1:] for it in image.objects}):
                examples = _examples(shown, concept, first, rng)[: max(SHOTS)]
                enough = len(examples) == max(SHOTS) and len({image for image, _ in examples}) >= LEAST_IMAGES
                if (concept in here) == present and enough and (present or surely_absent(concept, scenes[0])):
                    chosen.append(Case(first, concept, examples))
                    break
        if len(chosen) == 2:  # a theme gives both or none
            images += shown
            cases += chosen
    return images, cases


def surely_absent(family: str, scene: Scene) -> bool:
    """Not there, not even too small to be shown, and not under another name."""
    return family not in scene.families and not could_be_confused(family, scene)


def nuclei_cases(folder: Path, targets: int) -> tuple[list[ShownImage], list[Case]]:
    """Each image is searched with examples of the ones after it."""
    images = list(images_of_dataset(open_dataset(folder, "valid"), targets + max(SHOTS)))
    cases = []
    for searched in range(min(targets, len(images) - max(SHOTS))):
        rng = np.random.default_rng([8, searched])
        others = images[searched + 1 : searched + 1 + max(SHOTS)]
        examples = [
            (searched + 1 + i, image.objects[int(rng.integers(len(image.objects)))])
            for i, image in enumerate(others)
        ]
        cases.append(Case(searched, "nucleus", examples))
    return images, cases


def _examples(
    shown: Sequence[ShownImage], concept: str, first: int, rng: np.random.Generator
) -> list[tuple[int, ShownObject]]:
    """Objects of the concept in all but the first image: one of each in turn, so that few images repeat."""
    by_image = [
        [(first + i, image.of(concept)[int(j)]) for j in rng.permutation(len(image.of(concept)))]
        for i, image in enumerate(shown)
        if i > 0
    ]
    rounds = max(len(objects) for objects in by_image)
    return [objects[turn] for turn in range(rounds) for objects in by_image if turn < len(objects)]


class Asker:
    """Asks one model in every way; images are encoded once where a way allows it."""

    def __init__(self, segmenter: Segmenter, images: Sequence[ShownImage]) -> None:
        self.segmenter = segmenter
        self.images = images
        self._encoded: dict[int, EncodedImage] = {}
        self._large: dict[int, Segmenter] = {}

    def by_tokens(self, case: Case, shots: int) -> Result:
        kinds = [
            self.segmenter.exemplar(self.encoded(image), boxes=[list(it.box_xyxy)])
            for image, it in case.examples[:shots]
        ]
        kind = sum(kinds[1:], start=kinds[0])
        return self.segmenter.segment(self.encoded(case.searched), exemplar=kind, threshold=THRESHOLD)

    def on_canvas(self, case: Case, shots: int, large: bool) -> Result:
        examples = case.examples[:shots]
        numbers = list(dict.fromkeys([case.searched, *(image for image, _ in examples)]))
        canvas, corners, sides = paste([self.images[number].pixels for number in numbers])
        place = dict(zip(numbers, corners, strict=True))
        cell = self.images[case.searched].pixels.shape[:2]
        boxes = [
            moved(it.box_xyxy, self.images[image].pixels.shape[:2], cell, place[image])
            for image, it in examples
        ]
        segmenter = self._of_size(sides) if large else self.segmenter
        found = segmenter.segment(canvas, boxes=boxes, threshold=THRESHOLD)
        return cut_out(found, corners[0], (cell[0], cell[1]))

    def on_the_image(self, case: Case) -> Result:
        """One object of the searched image itself, or of another where it shows none."""
        own = self.images[case.searched].of(case.concept)
        if not own:
            return self.by_tokens(case, 1)
        return self.segmenter.segment(
            self.encoded(case.searched), boxes=[list(own[0].box_xyxy)], threshold=THRESHOLD
        )

    def encoded(self, number: int) -> EncodedImage:
        if number not in self._encoded:
            self._encoded = dict(list(self._encoded.items())[-12:])
            self._encoded[number] = self.segmenter.encode(self.images[number].pixels)
        return self._encoded[number]

    def _of_size(self, sides: int) -> Segmenter:
        if sides not in self._large:
            s = self.segmenter
            self._large[sides] = Segmenter(
                s.detector, s.tokenizer, s.config, dtype=s.dtype, resolution=s.resolution * sides
            )
        return self._large[sides]


def paste(pictures: Sequence[Pixels]) -> tuple[Pixels, list[tuple[int, int]], int]:
    """Pictures of any size in a square grid of cells as large as the first one.

    Returns:
        The canvas; x and y of each picture's corner; cells per side.
    """
    height, width = pictures[0].shape[:2]
    sides = math.ceil(math.sqrt(len(pictures)))
    canvas = np.full((sides * height, sides * width, 3), 128, np.uint8)
    corners = [(width * (i % sides), height * (i // sides)) for i in range(len(pictures))]
    for picture, (x, y) in zip(pictures, corners, strict=True):
        cell = Image.fromarray(picture)
        if picture.shape != pictures[0].shape:
            cell = cell.resize((width, height), Image.Resampling.BILINEAR)
        canvas[y : y + height, x : x + width] = np.asarray(cell)
    return canvas, corners, sides


def cut_out(result: Result, corner: tuple[int, int], size_hw: tuple[int, int]) -> Result:
    """What was found in one cell of a canvas: objects whose box has its middle there."""
    (x, y), (height, width) = corner, size_hw
    middle = (result.boxes[:, :2] + result.boxes[:, 2:]) / 2
    inside = (middle >= (x, y)).all(1) & (middle < (x + width, y + height)).all(1)
    return Result(
        phrase=result.phrase,
        image_size=size_hw,
        masks=result.masks[inside, y : y + height, x : x + width],
        boxes=result.boxes[inside] - np.array([x, y, x, y], dtype=np.float32),
        scores=result.scores[inside],
        class_scores=result.class_scores[inside],
        presence=result.presence,
        presence_logit=result.presence_logit,
    )


def moved(
    box: tuple[float, float, float, float],
    size_hw: tuple[int, ...],
    cell_hw: tuple[int, ...],
    corner: tuple[int, int],
) -> list[float]:
    """A box of a picture, on the canvas."""
    across, down = cell_hw[1] / size_hw[1], cell_hw[0] / size_hw[0]
    x, y = corner
    return [box[0] * across + x, box[1] * down + y, box[2] * across + x, box[3] * down + y]


def measure(
    segmenter: Segmenter, images: Sequence[ShownImage], cases: Sequence[Case]
) -> Iterator[dict[str, Any]]:
    """One row per way and number of examples."""
    asker = Asker(segmenter, images)
    rows = {(way, shots): Row() for way in WAYS for shots in SHOTS} | {("own image", 1): Row()}
    for case in cases:
        objects = images[case.searched].of(case.concept)
        for (way, shots), row in rows.items():
            began = time.process_time()
            if way == "tokens":
                result = asker.by_tokens(case, shots)
            elif way == "own image":
                result = asker.on_the_image(case)
            else:
                result = asker.on_canvas(case, shots, large=way != "canvas")
            row.add(result, objects, time.process_time() - began)
    for (way, shots), row in rows.items():
        found = row.metrics.compute().to_dict()
        yield {
            "way": way,
            "shots": shots,
            "asked": row.asked,
            "cpu_seconds": row.seconds / max(1, row.asked),
            **{
                name: found[name] for name in ("cgf1", "il_mcc", "pmf1", "f1_50", "precision_50", "recall_50")
            },
        }


def as_markdown(report: dict[str, Any]) -> str:
    lines = [f"Model `{report['model']}`, every example on another image, scores cut at {THRESHOLD:g}:", ""]
    lines += [
        "| data | way | examples | mask cgF1 | IL-MCC | F1 at IoU 0.5 | precision | recall | CPU s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for data, rows in report["data"].items():
        for row in rows:
            whole = data != "nuclei"  # every image shows nuclei: nothing can be said of presence
            cells = [
                data,
                row["way"],
                str(row["shots"]),
                f"{100 * row['cgf1']:.1f}" if whole else "-",
                f"{row['il_mcc']:.2f}" if whole else "-",
                *(f"{100 * row[name]:.1f}" for name in ("f1_50", "precision_50", "recall_50")),
                f"{row['cpu_seconds']:.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    counts = ", ".join(f"{rows[0]['asked']} {data} prompts" for data, rows in report["data"].items())
    lines += ["", f"{counts}. Made by `{report['command']}`.", ""]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare ways to carry an example to another image.")
    parser.add_argument("--model", default="nano", help="anything that conceptseg.load takes")
    parser.add_argument("--targets", type=int, default=40, help="searched scenes, and searched nuclei images")
    parser.add_argument("--nuclei", type=Path, default=None, help="folder of the dataset; none: scenes alone")
    parser.add_argument("--split", default="held_out", choices=("held_out", "unseen"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="cross_image", help="file name of the results, without ending")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        segmenter = cs.load(arguments.model, device="cpu")
        data = {"scenes": list(measure(segmenter, *scene_cases(arguments.targets, arguments.split)))}
        if arguments.nuclei is not None:
            data["nuclei"] = list(measure(segmenter, *nuclei_cases(arguments.nuclei, arguments.targets)))
    except cs.ConceptSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = f"python benchmarks/cross_image.py --model {arguments.model} --targets {arguments.targets}"
    command += " --nuclei NUCLEI" if arguments.nuclei else ""
    command += f" --split {arguments.split}" if arguments.split != "held_out" else ""
    report = {
        "model": arguments.model,
        "fingerprint": segmenter.fingerprint,
        "command": command,
        "data": data,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = [arguments.out / f"{arguments.name}{ending}" for ending in (".json", ".md")]
    written[0].write_text(json.dumps(report, indent=2) + "\n")
    written[1].write_text(as_markdown(report))
    print(as_markdown(report))
    print(f"wrote {written[0]} and {written[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

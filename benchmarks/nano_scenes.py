"""How well does a model segment procedural scenes that it never saw?

    python benchmarks/nano_scenes.py --model nano --count 500

Two splits: "held_out" (the training distribution, other seeds) and "unseen" (combinations of kind and colour
or pattern that training never showed). Two kinds of prompt: phrases, and one example box. As many absent
prompts as present ones. Scores are cut at 0.5. Everything is chosen by seed: two runs give the same numbers.

Writes benchmarks/results/nano_scenes.json (all metrics, plain fractions) and nano_scenes.md (a table).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import conceptseg as cs
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.evaluation.presence_metrics import expected_calibration_error, presence_auroc

if TYPE_CHECKING:
    from conceptseg.result import Result
    from conceptseg.segmenter import EncodedImage, Segmenter

THRESHOLD = 0.5
SIZE = 256  # pixels; what the scenes are made for
PHRASES_PER_SCENE = 6  # at most so many present phrases, and as many absent ones
SCENES_PER_CHUNK = 10  # unit of work of one process; even, so that scenes of one theme stay together
SPLITS = ("held_out", "unseen")
PROMPTS = ("text", "exemplar")


@dataclass
class Tally:
    """Running sums of one split and one kind of prompt."""

    masks: ConceptEvaluator = field(default_factory=lambda: ConceptEvaluator("masks", THRESHOLD))
    boxes: ConceptEvaluator = field(default_factory=lambda: ConceptEvaluator("boxes", THRESHOLD))
    presence: list[float] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)

    def add(self, result: Result, scene: Scene, objects: list[int]) -> None:
        """Count one answer against the scene's objects that it should have found."""
        masks = [scene.objects[index].mask for index in objects]
        boxes = [scene.objects[index].box_xyxy for index in objects]
        pair = ConceptPair(
            scores=result.scores,
            predicted_masks=result.compact_masks.rles(),
            target_masks=np.stack(masks) if masks else np.zeros((0, *scene.image.shape[:2]), bool),
            predicted_boxes=result.boxes,
            target_boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        )
        self.masks.add(pair)
        self.boxes.add(pair)
        self.presence.append(float(result.presence))
        self.present.append(bool(objects))

    def merge(self, other: Tally) -> None:
        self.masks.merge(other.masks)
        self.boxes.merge(other.boxes)
        self.presence += other.presence
        self.present += other.present

    def compute(self) -> dict[str, Any]:
        return {
            "masks": self.masks.compute().to_dict(),
            "boxes": self.boxes.compute().to_dict(),
            "presence": {
                "auroc": presence_auroc(self.presence, self.present),
                "ece": expected_calibration_error(self.presence, self.present),
            },
        }


class SceneShelf:
    """Scenes of one split and their encoded images, made once each while they are near."""

    def __init__(self, segmenter: Segmenter, split: str, size: int, difficulty: float, keep: int = 8) -> None:
        self.segmenter, self.split, self.size, self.difficulty, self.keep = (
            segmenter,
            split,
            size,
            difficulty,
            keep,
        )
        self._kept: OrderedDict[int, tuple[Scene, EncodedImage]] = OrderedDict()

    def __getitem__(self, number: int) -> tuple[Scene, EncodedImage]:
        if number not in self._kept:
            # Two scenes per theme, so that an example box in one has a meaning in the other.
            scene = render_scene(
                number, size=self.size, theme=number // 2, difficulty=self.difficulty, split=self.split
            )
            self._kept[number] = scene, self.segmenter.encode(scene.image)
            while len(self._kept) > self.keep:
                self._kept.popitem(last=False)
        return self._kept[number]


def ask_phrases(segmenter: Segmenter, shelf: SceneShelf, number: int, tally: Tally) -> None:
    """Present phrases and as many absent ones, all in one call."""
    scene, encoded = shelf[number]
    rng = np.random.default_rng([1, number])
    present = _some(list(scene.phrases), PHRASES_PER_SCENE, rng)
    absent = _some(scene.absent_phrases, len(present), rng)
    phrases = present + absent
    if not phrases:
        return
    for phrase, result in zip(
        phrases, segmenter.segment(encoded, text=phrases, threshold=THRESHOLD), strict=True
    ):
        tally.add(result, scene, scene.phrases.get(phrase, []))


def ask_examples(segmenter: Segmenter, shelf: SceneShelf, number: int, count: int, tally: Tally) -> None:
    """One box of each family with company, meaning all of it; and as many examples of absent families.

    Absent examples are drawn in the other scene of the same theme, or in one of another theme.
    """
    scene, encoded = shelf[number]
    rng = np.random.default_rng([2, number])
    families = [members for members in scene.families.values() if len(members) >= 2]
    for members in families:
        box = scene.objects[int(rng.choice(members))].box_xyxy
        tally.add(
            segmenter.segment(encoded, boxes=[list(box)], labels=[1], threshold=THRESHOLD), scene, members
        )

    strangers: list[tuple[int, str]] = []
    for step, other in enumerate((number ^ 1, *((number + step) % count for step in (2, 4, 6)))):
        if step < 2 or len(strangers) < len(families):  # farther themes only where the near ones have too few
            strangers += [(other, name) for name in shelf[other][0].families if name not in scene.families]
    for other, family in _some(strangers, len(families), rng):
        other_scene, other_encoded = shelf[other]
        example = other_scene.objects[int(rng.choice(other_scene.families[family]))]
        kind = segmenter.exemplar(other_encoded, boxes=[list(example.box_xyxy)], labels=[1])
        tally.add(segmenter.segment(encoded, exemplar=kind, threshold=THRESHOLD), scene, [])


def evaluate_scenes(
    segmenter: Segmenter, numbers: range, count: int, split: str, size: int, difficulty: float
) -> dict[str, Tally]:
    """Ask everything of some of the `count` scenes of a split."""
    shelf = SceneShelf(segmenter, split, size, difficulty)
    tallies = {prompt: Tally() for prompt in PROMPTS}
    for number in numbers:
        ask_phrases(segmenter, shelf, number, tallies["text"])
        ask_examples(segmenter, shelf, number, count, tallies["exemplar"])
    return tallies


def _some(items: list[Any], limit: int, rng: np.random.Generator) -> list[Any]:
    """At most `limit` of the items, chosen by `rng`, in their own order."""
    chosen = sorted(rng.permutation(len(items))[:limit].tolist())
    return [items[index] for index in chosen]


_segmenter: Segmenter | None = None  # of this worker process


def _start_worker(model: str, device: str, dtype: str, threads: int) -> None:
    global _segmenter
    torch.set_num_threads(threads)
    _segmenter = cs.load(model, device=device, dtype=dtype)


def _work(job: tuple[range, int, str, int, float]) -> tuple[str, int, dict[str, Tally]]:
    assert _segmenter is not None  # _start_worker ran first
    numbers, count, split, size, difficulty = job
    return split, len(numbers), evaluate_scenes(_segmenter, numbers, count, split, size, difficulty)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All splits, spread over processes; returns what goes into the JSON file."""
    started = time.perf_counter()
    jobs = [
        (range(start, min(start + SCENES_PER_CHUNK, arguments.count)), arguments.count, split,
         arguments.size, arguments.difficulty)
        for split in arguments.splits
        for start in range(0, arguments.count, SCENES_PER_CHUNK)
    ]  # fmt: skip
    tallies = {split: {prompt: Tally() for prompt in PROMPTS} for split in arguments.splits}
    workers = max(1, min(arguments.workers, len(jobs)))
    # One process per core with one thread each: the maps are too small for several threads to share well.
    threads = max(1, (os.cpu_count() or 1) // workers)
    set_up = (arguments.model, arguments.device, arguments.dtype, threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("scenes", total=arguments.count * len(arguments.splits))

        def take(done: tuple[str, int, dict[str, Tally]]) -> None:
            split, scenes, found = done
            for prompt, tally in found.items():
                tallies[split][prompt].merge(tally)
            progress.advance(bar, scenes)

        if workers == 1:
            _start_worker(*set_up)
            for job in jobs:
                take(_work(job))
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, _start_worker, set_up) as pool:
                for done in pool.map(_work, jobs):  # in order, so that sums do not depend on the timing
                    take(done)
    return {
        "model": arguments.model,
        "command": _command(arguments),
        "scenes_per_split": arguments.count,
        "size": arguments.size,
        "difficulty": arguments.difficulty,
        "dtype": arguments.dtype,
        "score_threshold": THRESHOLD,
        "phrases_per_scene": PHRASES_PER_SCENE,
        "seconds": round(time.perf_counter() - started, 1),
        "splits": {
            split: {prompt: tally.compute() for prompt, tally in by_prompt.items()}
            for split, by_prompt in tallies.items()
        },
    }


def as_markdown(report: dict[str, Any]) -> str:
    """The table for people: percent, but for the correlation, AUROC and calibration error."""
    lines = [
        f"Model `{report['model']}`, {report['scenes_per_split']} scenes per split of {report['size']} px, "
        f"scores cut at {report['score_threshold']}:",
        "",
        "| scenes | prompt | mask cgF1 | @50 | @75 | IL-MCC | mask pmF1 | @50 | box cgF1 | AUROC | ECE "
        "| pairs | present |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {"text": "phrase", "exemplar": "one example box"}
    for split, prompts in report["splits"].items():
        for prompt, metrics in prompts.items():
            masks, boxes, presence = metrics["masks"], metrics["boxes"], metrics["presence"]
            percent = [f"{100 * masks[name]:.1f}" for name in ("cgf1", "cgf1_50", "cgf1_75")]
            quality = [f"{100 * masks[name]:.1f}" for name in ("pmf1", "pmf1_50")]
            cells = [
                split.replace("_", "-"),
                names[prompt],
                *percent,
                f"{masks['il_mcc']:.2f}",
                *quality,
                f"{100 * boxes['cgf1']:.1f}",
                _number(presence["auroc"]),
                _number(presence["ece"]),
                str(masks["pairs"]),
                str(masks["positive_pairs"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"Made by `{report['command']}` in {report['seconds']:.0f} s.", ""]
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _command(arguments: argparse.Namespace) -> str:
    """The line that repeats this run: model, count and whatever else changes the numbers."""
    words = [f"--model {arguments.model}", f"--count {arguments.count}"]
    if arguments.splits != list(SPLITS):
        words.append(f"--splits {' '.join(arguments.splits)}")
    if arguments.size != SIZE:
        words.append(f"--size {arguments.size}")
    if arguments.difficulty != 1.0:
        words.append(f"--difficulty {arguments.difficulty}")
    if arguments.dtype != "float32":
        words.append(f"--dtype {arguments.dtype}")
    return f"python benchmarks/nano_scenes.py {' '.join(words)}"


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Evaluate a model on procedural scenes that training never saw."
    )
    parser.add_argument("--model", default="nano", help="anything that conceptseg.load takes")
    parser.add_argument("--count", type=int, default=500, help="scenes per split, an even number")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--size", type=int, default=SIZE, help="pixels")
    parser.add_argument("--difficulty", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="bfloat16 halves the time where the CPU has it")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes; default: one per core, 1 on a GPU"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results"
    )
    parser.add_argument("--name", default="nano_scenes", help="file name of the results, without ending")
    arguments = parser.parse_args(words)
    if arguments.count < 4 or arguments.count % 2:
        parser.error(f"--count {arguments.count} must be even and at least 4: two scenes share a theme")
    if arguments.workers is None:
        arguments.workers = min(8, os.cpu_count() or 1) if arguments.device == "cpu" else 1
    return arguments


def main(words: list[str] | None = None) -> int:
    arguments = _arguments(words)
    try:
        report = run(arguments)
    except cs.ConceptSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = as_markdown(report)
    json_path, table_path = (arguments.out / f"{arguments.name}{ending}" for ending in (".json", ".md"))
    json_path.write_text(json.dumps(_without_nan(report), indent=2) + "\n")
    table_path.write_text(table)
    print(table)
    print(f"wrote {json_path} and {table_path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

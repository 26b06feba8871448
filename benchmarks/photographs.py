"""How well does a model segment real photographs?

    python benchmarks/photographs.py --model nano

The photograph of 24 coins is counted against a reference (coins_reference.py): one example box, each coin in
its turn, and the phrases "coin" and "coins", at several resolutions. A coin is found when a detection of its
own overlaps it with a mask IoU of at least 0.5; every detection left over is false, second ones of the same
coin too. Scores are cut at 0.5. Then further photographs are asked about (photograph_list.py), to look at.

Needs the `test` extra. Writes benchmarks/results/photographs.json and photographs.md, and overlays to
docs/images: coins_box.png, coins_phrase.png, and the photographs that are marked to be shown; with --gallery,
all of them to a folder of your choice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402  # after the path, as below
import numpy.typing as npt  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

import conceptseg as cs  # noqa: E402
from benchmarks.photograph_list import CREDITS, QUESTIONS, Question, read_photograph  # noqa: E402
from conceptseg.cli.demo import COIN_BOX  # noqa: E402

if TYPE_CHECKING:
    from conceptseg.result import Result
    from conceptseg.segmenter import EncodedImage, Segmenter

PHOTOGRAPH = ROOT / "src" / "conceptseg" / "assets" / "coins.png"
REFERENCE = Path(__file__).with_name("coins_reference.png")
PHRASES = ("coin", "coins")
RESOLUTIONS = (160, 192, 224, 256, 320)
MASK_IOU = 0.5
ENOUGH, TOO_MANY = 18, 3  # the aim: at least so many coins found, at most so many false
ENLARGED = 2  # the coins' overlays; at its own 384 x 303 the scores would hide the coins


@dataclass(frozen=True)
class Count:
    """One answer about the coins, compared with the reference."""

    found: int
    false: int  # detections that found no coin of their own
    repeats: int  # of the false ones, those that overlap a coin which another detection found
    mean_iou: float | None  # of the found coins
    presence: float


def read_reference() -> npt.NDArray[np.uint8]:
    """(H, W), 0 = background, 1 to 24 = coins in reading order."""
    return np.asarray(Image.open(REFERENCE))


def reference_boxes(labels: npt.NDArray[np.uint8]) -> list[tuple[float, float, float, float]]:
    """The tight box of every coin, x0, y0, x1, y1 in pixels."""
    boxes = []
    for number in range(1, int(labels.max()) + 1):
        rows, columns = np.nonzero(labels == number)
        boxes.append(
            (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        )
    return boxes


def mask_ious(masks: npt.NDArray[np.bool_], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """IoU of N masks with every coin: (N, 24)."""
    coins = int(labels.max())
    shared = np.array([np.bincount(labels[mask], minlength=coins + 1) for mask in masks], float)
    shared = shared.reshape(-1, coins + 1)
    areas = np.bincount(labels.ravel(), minlength=coins + 1)[1:]
    return shared[:, 1:] / (shared.sum(axis=1, keepdims=True) + areas - shared[:, 1:])


def count_coins(result: Result, labels: npt.NDArray[np.uint8]) -> Count:
    """Pair detections with coins, one to one, as many as overlap enough."""
    ious = mask_ious(result.masks, labels)  # (N, 24)
    enough = ious >= MASK_IOU
    rows, columns = linear_sum_assignment(np.where(enough, 1 + ious, 0), maximize=True)
    paired = [(row, column) for row, column in zip(rows, columns, strict=True) if enough[row, column]]
    return Count(
        found=len(paired),
        false=len(result) - len(paired),
        repeats=int(enough.any(axis=1).sum()) - len(paired),
        mean_iou=round(float(np.mean([ious[pair] for pair in paired])), 4) if paired else None,
        presence=round(float(result.presence), 4),
    )


def ask_coins(
    segmenter: Segmenter, photograph: EncodedImage, labels: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Every question about the coins at one resolution."""

    def count(**prompt: Any) -> Count:
        return count_coins(segmenter.segment(photograph, **prompt), labels)

    boxes = reference_boxes(labels)
    counts = [count(boxes=[box]) for box in boxes]
    found, false = [one.found for one in counts], [one.false for one in counts]
    return {
        "demo_box": {"box": COIN_BOX, **asdict(count(boxes=[COIN_BOX]))},
        "each_box": {
            "median_found": statistics.median(found),
            "least_found": min(found),
            "most_found": max(found),
            "median_false": statistics.median(false),
            "most_false": max(false),
            "boxes_that_reach_the_aim": sum(map(_reaches_the_aim, counts)),
            "boxes": [
                {"coin": number, "box": box, **asdict(one)}
                for number, (box, one) in enumerate(zip(boxes, counts, strict=True), start=1)
            ],
        },
        "phrases": {phrase: asdict(count(text=phrase)) for phrase in PHRASES},
        "coin_and_demo_box": asdict(count(text="coin", boxes=[COIN_BOX])),
    }


def ask_photographs(segmenter: Segmenter, images: Path, gallery: Path | None) -> list[dict[str, Any]]:
    """Every question about the other photographs; overlays are written as they come."""
    rows = []
    for question in QUESTIONS:
        started = time.perf_counter()
        result = segmenter.segment(read_photograph(question.photograph), **question.prompt)
        rows.append({
            "name": question.name, "photograph": question.photograph, "asked": question.asked,
            "prompt": question.prompt, "what": question.what, "there": question.there, "found": len(result),
            "best_score": round(float(result.scores[0]), 4) if len(result) else None,
            "presence": round(result.presence, 4), "shown": question.shown,
            "seconds": round(time.perf_counter() - started, 3),
        })  # fmt: skip
        for folder in _folders(question, images, gallery):
            result.save(folder / f"photograph_{question.name}.png")
    return rows


def _folders(question: Question, images: Path, gallery: Path | None) -> list[Path]:
    return ([images] if question.shown else []) + ([gallery] if gallery else [])


def enlarged(result: Result, times: int) -> Result:
    """The same answer on the image `times` as large, for an overlay with room for the scores."""
    assert result.image is not None  # segment() always gives it
    height, width = (side * times for side in result.image_size)
    examples = result.examples
    if examples is not None:
        examples = replace(examples, boxes_xyxy=examples.boxes_xyxy * times, size_hw=(height, width))
    return replace(
        result,
        image_size=(height, width),
        image=np.array(Image.fromarray(result.image).resize((width, height), Image.Resampling.BICUBIC)),
        masks=result.masks.repeat(times, axis=1).repeat(times, axis=2),
        boxes=result.boxes * times,
        examples=examples,
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything; returns what goes into the JSON file."""
    started = time.perf_counter()
    labels = read_reference()
    trained = cs.load(arguments.model, device=arguments.device)
    coins: dict[str, Any] = {}
    for resolution in sorted({trained.resolution, *arguments.resolutions}):
        segmenter = cs.load(arguments.model, device=arguments.device, resolution=resolution)
        coins[str(resolution)] = ask_coins(segmenter, segmenter.encode(PHOTOGRAPH), labels)
        print(f"coins at {resolution} px: {_in_words(coins[str(resolution)])}", file=sys.stderr)

    prompts: dict[str, dict[str, Any]] = {
        "coins_box": {"boxes": [COIN_BOX]},
        "coins_phrase": {"text": "coin"},
    }
    for name, prompt in prompts.items():
        result = trained.segment(PHOTOGRAPH, **prompt)
        enlarged(result, ENLARGED).save(arguments.images / f"{name}.png")
    return {
        "model": arguments.model,
        "command": _command(arguments),
        "score_threshold": 0.5,
        "mask_iou": MASK_IOU,
        "coins_there": int(labels.max()),
        "trained_at": trained.resolution,
        "coins": coins,
        "photographs": ask_photographs(trained, arguments.images, arguments.gallery),
        "seconds": round(time.perf_counter() - started, 1),
    }


def as_markdown(report: dict[str, Any]) -> str:
    """Two tables for people: the coins by resolution, then the other photographs."""
    there = report["coins_there"]
    lines = [
        f"Model `{report['model']}`, trained at {report['trained_at']} px; scores cut at "
        f"{report['score_threshold']}.",
        "",
        f"{there} coins: found (and false ones) at mask IoU {report['mask_iou']}. The demo's box is a coin, "
        f"then each of the {there} is the example in its turn. The aim: at least {ENOUGH} found and at "
        f"most {TOO_MANY} false.",
        "",
        "| resolution | demo's box | each box: median | fewest found | most false | boxes that reach the aim "
        '| "coin" | "coins" | "coin" and demo\'s box |',
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for resolution, row in report["coins"].items():
        each = row["each_box"]
        cells = [
            resolution,
            _pair(row["demo_box"]),
            f"{each['median_found']:g} ({each['median_false']:g})",
            str(each["least_found"]),
            str(each["most_false"]),
            f"{each['boxes_that_reach_the_aim']} of {there}",
            *(_pair(row["phrases"][phrase]) for phrase in PHRASES),
            _pair(row["coin_and_demo_box"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Other photographs, at {report['trained_at']} px. Found is how many answers there were; whether "
        "they are right is for the eye.",
        "",
        "| photograph | asked by | means | there | found | best score | presence | rights |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in report["photographs"]:
        cells = [
            f"`{row['photograph']}`",
            row["asked"],
            row["what"],
            "many" if row["there"] is None else str(row["there"]),
            str(row["found"]),
            "-" if row["best_score"] is None else f"{row['best_score']:.2f}",
            f"{row['presence']:.2f}",
            CREDITS[row["photograph"]],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"Made by `{report['command']}` in {report['seconds']:.0f} s.", ""]
    return "\n".join(lines)


def _reaches_the_aim(count: Count) -> bool:
    return count.found >= ENOUGH and count.false <= TOO_MANY


def _pair(count: dict[str, Any]) -> str:
    return f"{count['found']} ({count['false']})"


def _in_words(row: dict[str, Any]) -> str:
    each, coin = row["each_box"], row["phrases"]["coin"]
    return (
        f"demo's box finds {_pair(row['demo_box'])}, each box {each['median_found']:g} "
        f'({each["median_false"]:g}) in the median, "coin" {_pair(coin)}; false ones in brackets'
    )


def _command(arguments: argparse.Namespace) -> str:
    """The line that repeats this run: the model, and whatever else changes the numbers."""
    words = [f"--model {arguments.model}"]
    if tuple(arguments.resolutions) != RESOLUTIONS:
        words += ["--resolutions", *map(str, arguments.resolutions)]
    return " ".join(["python benchmarks/photographs.py", *words])


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the coins, and look at other photographs.")
    parser.add_argument("--model", default="nano", help="anything that conceptseg.load takes")
    parser.add_argument(
        "--resolutions", type=int, nargs="*", default=list(RESOLUTIONS), metavar="PX",
        help="for the coins, besides what the model was trained at",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results"
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=ROOT / "docs" / "images",
        help="folder of the overlays shown in the docs",
    )
    parser.add_argument("--gallery", type=Path, help="folder for an overlay of every other photograph")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    arguments = _arguments(words)
    try:
        report = run(arguments)
    except cs.ConceptSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = as_markdown(report)
    json_path, table_path = arguments.out / "photographs.json", arguments.out / "photographs.md"
    json_path.write_text(json.dumps(report, indent=2) + "\n")
    table_path.write_text(table)
    print(table)
    print(f"wrote {json_path}, {table_path} and overlays in {arguments.images}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

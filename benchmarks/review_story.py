"""What does a review bring? Label 200 images, review 40, fine-tune, label the rest.

    python benchmarks/review_story.py --data blood_cells                  # everything, and the table
    python benchmarks/review_story.py --data blood_cells --arm reviewed   # a piece; what is done stays done

blood_cells is BCCD as a COCO dataset with boxes (docs/decisions/finetuning-of-drawn-nano.md); nano has
seen none of it. All of its kinds are asked for, and count, as "cell". Its split
`train` is labelled with nano, and the ground truth plays the reviewer through the endpoints that the page of
`conceptseg review` uses. `Reviewer` says what it does. What it accepted is exported and tuned on by the
defaults of `conceptseg finetune`, but for the number of steps. The split `valid` judges: it was neither
labelled nor reviewed nor looked at in tuning.

Arms: "reviewed" looks at the 40 most doubtful images; "unreviewed" tunes on the same 40 as they were
labelled; "random" reviews 40 others, drawn at random.

Writes benchmarks/results/review_story.json and review_story.md. One thread; a run that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

import conceptseg as cs
from conceptseg.benchmark.report import processor_name
from conceptseg.data.concept_data import ConceptDataset, ConceptImage, open_dataset
from conceptseg.evaluation.average_precision import RECALL_LEVELS
from conceptseg.evaluation.cgf1 import cgf1_of
from conceptseg.evaluation.evaluate import as_pair
from conceptseg.evaluation.questions import LEAST_SCORE, Asker
from conceptseg.evaluation.regions import region_iou
from conceptseg.evaluation.tally import Tally
from conceptseg.finetune import finetune
from conceptseg.finetune.splits import spread
from conceptseg.labelling import Concept, LabelSettings, ModelChoice, label
from conceptseg.labelling.ledger import Ledger
from conceptseg.review import Review, export_accepted
from conceptseg.review.app import make_review_app
from conceptseg.study.intervals import Bootstrap, Estimate, Statistic

RESULTS = Path(__file__).resolve().parent / "results"
ANNOTATIONS = "_annotations.coco.json"
PHRASE = "cell"
ARMS = {
    "reviewed": "the most doubtful, reviewed",
    "unreviewed": "the same, as labelled",
    "random": "drawn at random, reviewed",
}
FITS = 0.5  # overlap (IoU) from which an object is that of the ground truth
COMPLETE = 0.9  # of an image's objects have to be there for it to be accepted
IN_VAIN = 3  # boxes without a fitting suggestion, one after another, after which no more are drawn
THRESHOLD = 0.5  # of scores that count
METRICS = {"cgf1": "cgF1", "f1_50": "F1 at IoU 0.5", "ap50": "AP50"}


class Reviewer:
    """Somebody who sees what is true.

    Deletes what fits no object. Asks the phrase with all low scores, then draws a box around each object that
    is still missing, the largest first, and adds every suggestion that fits one. Accepts the image if nearly
    all are there then; otherwise rejects it.
    """

    def __init__(self, page: TestClient) -> None:
        self.page = page
        self.done: Counter[str] = Counter()

    def look(self, place: int, truth: ConceptImage) -> None:
        true = boxes_of(truth)
        at = f"/review/images/{place}"
        shown = self.page.get(at).json()
        assert shown["name"].endswith(truth.path.name)
        pairs = fitting(corners(shown["objects"]), true)
        wrong = [one["key"] for number, one in enumerate(shown["objects"]) if number not in pairs]
        for key in wrong:
            self.page.delete(f"{at}/objects/{key}").raise_for_status()
        missing = [number for number in range(len(true)) if number not in pairs.values()]
        missing.sort(key=lambda number: area(true[number]), reverse=True)
        asked, in_vain, added, boxes = set[int](), 0, 0, 0
        gained = self._ask(at, true, missing, boxes=[])
        while True:
            added += len(gained)
            missing = [number for number in missing if number not in gained]
            left = [number for number in missing if number not in asked]
            if not left or in_vain == IN_VAIN:
                break
            asked.add(left[0])
            gained = self._ask(at, true, missing, boxes=[true[left[0]].tolist()])
            in_vain = 0 if gained else in_vain + 1
            boxes += 1
        complete = len(missing) <= (1 - COMPLETE) * len(true)
        state = "accepted" if complete else "rejected"
        self.page.post(at, json={"state": state}).raise_for_status()
        self.done.update({state: 1, "labelled": len(shown["objects"]), "boxes": boxes})
        self.done.update({f"deleted, {state}": len(wrong), f"added, {state}": added})
        self.done.update({f"missing, {state}": len(missing), f"objects, {state}": len(true)})

    def _ask(
        self, at: str, true: NDArray[np.float64], missing: Sequence[int], boxes: list[list[float]]
    ) -> set[int]:
        """Add the suggestions that fit what is missing, and say what that was."""
        if not missing:
            return set()
        answer = self.page.post(f"{at}/suggestions", json={"phrase": 0, "boxes": boxes})
        made = answer.raise_for_status().json()
        found = fitting(corners(made["objects"]), true[list(missing)])
        if found:
            wanted = {"id": made["id"], "chosen": sorted(found)}
            self.page.post(f"{at}/objects", json=wanted).raise_for_status()
        return {missing[number] for number in found.values()}


def fitting(found: NDArray[np.float64], true: NDArray[np.float64]) -> dict[int, int]:
    """Of each found box that fits a true one, which; no true one fits two."""
    overlap = region_iou(found, true, "boxes")
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= FITS}


def boxes_of(image: ConceptImage) -> NDArray[np.float64]:
    """(G, 4) x0 y0 x1 y1 of everything that is there."""
    boxes = [one.box_xyxy for objects in image.phrases.values() for one in objects]
    return np.array(boxes, np.float64).reshape(-1, 4)


def corners(objects: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """(P, 4) x0 y0 x1 y1 of objects as COCO has them."""
    boxes = np.array([one["bbox"] for one in objects], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def area(box: NDArray[np.float64]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


class Story:
    """The pieces, each of which is done once; what they found is in `work`/*.json."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        data = called_cell(options.data, self.work / "data")
        self.held_out = open_dataset(data, "valid")
        self.labelled = spread(open_dataset(data, "train"), options.label)
        self.by_name = {image.path.name: image for image in self.labelled}

    def piece(self, name: str, find: Callable[[], Any]) -> Any:
        """What was found, and the processor time that it took in all runs."""
        done, spent = self.work / f"{name}.json", self.work / f"{name}.seconds"
        if not done.exists():
            with timed(spent):
                found = find()
            done.write_text(json.dumps({"seconds": float(spent.read_text()), "found": found}))
        return json.loads(done.read_text())

    def label(self) -> Any:
        def find() -> Any:
            self._label("nano", list(self.labelled), self.work / "labels")
            return self._right(self.work / "labels", self.labelled)

        return self.piece("label", find)

    def review(self, arm: str) -> Any:
        """The places that are looked at, and what is done there; a folder of labels for each arm."""
        folder = self.work / arm / "labels"

        def find() -> Any:
            shutil.rmtree(folder, ignore_errors=True)  # a review that was stopped begins anew
            shutil.copytree(self.work / "labels", folder)
            with Review.open(folder) as review:
                places = list(range(self.options.review))
                if arm == "random":
                    drawn = np.random.default_rng(0).permutation(len(review))[: self.options.review]
                    places = sorted(int(place) for place in drawn)
                names = [Path(review.at(place).image.path).name for place in places]
                if arm == "unreviewed":
                    for place in places:
                        review.decide(place, "accepted")
                    done = {"accepted": len(places)}
                else:
                    done = self._played(review, dict(zip(places, names, strict=True)))
                written = export_accepted(review)
            exported = {"images": written.images, "objects": written.objects}
            return {"names": names, "done": done, "exported": exported}

        return self.piece(f"{arm}/review", find)

    def _played(self, review: Review, names: dict[int, str]) -> dict[str, int]:
        app = make_review_app(review, ModelChoice(**review.model).load, "nano")
        with TestClient(app, base_url="http://127.0.0.1") as page:
            while page.get("/readyz").status_code != 200:
                time.sleep(0.1)
            reviewer = Reviewer(page)
            for place, name in names.items():
                reviewer.look(place, self.by_name[name])
            return dict(reviewer.done)

    def tune(self, arm: str) -> Any:
        out = self.work / arm / "run"

        def find() -> Any:
            data = self.work / arm / "labels" / "reviewed"
            steps = [f"step_count={self.options.steps}"]
            begun = (out / "last.pt").exists()
            if not begun:
                shutil.rmtree(out, ignore_errors=True)
            finetune(data, "nano", out, overrides=steps, resume=begun)
            known = json.loads((out / "comparison.json").read_text())
            return {when: known[f"scenes_{when}"]["masks"]["cgf1"] for when in ("before", "after")}

        return self.piece(f"{arm}/tune", find)

    def judge(self, name: str) -> Any:
        """Counts of every held-out image, from which all figures and intervals follow."""
        model = "nano" if name == "before" else str(self.work / name / "run" / "model")
        (self.work / name).mkdir(parents=True, exist_ok=True)
        return self.piece(f"{name}/judge", lambda: list(counted(model, self.held_out)))

    def rest(self) -> Any:
        """Label again, with the tuned model, the images that were not looked at: what those labels became."""
        seen = set(self.review("reviewed")["found"]["names"])
        rest = [number for number, image in enumerate(self.labelled) if image.path.name not in seen]
        images, folder = self.labelled.part(rest), self.work / "rest"

        def find() -> Any:
            self._label(str(self.work / "reviewed" / "run" / "model"), list(images), folder)
            before = self._right(self.work / "labels", images)
            return {"before": before, "after": self._right(folder, images)}

        return self.piece("rest_labels", find)

    def _label(self, model: str, images: list[ConceptImage], folder: Path) -> None:
        settings = LabelSettings((Concept(PHRASE, PHRASE, THRESHOLD),), ModelChoice(model))
        label([image.path for image in images], settings, folder)

    def _right(self, folder: Path, images: ConceptDataset) -> dict[str, int]:
        """Objects that are there, that are labelled, and that are both."""
        wanted, found = {image.path.name: image for image in images}, Counter[str]()
        ledger = Ledger.read(folder)
        for labelled in ledger.all_labelled():
            truth = wanted.get(Path(labelled.path).name)
            if truth is None:
                continue
            true, given = boxes_of(truth), corners(labelled.answer["annotations"])
            right = len(fitting(given, true))
            found.update({"images": 1, "there": len(true), "labelled": len(given), "right": right})
        ledger.close()
        return dict(found)


def called_cell(data: Path, copy: Path) -> Path:
    """The same images and boxes under one name."""
    for split in ("train", "valid"):
        source = data.resolve() / split
        content = json.loads((source / ANNOTATIONS).read_text(encoding="utf-8"))
        content["categories"] = [{"id": 1, "name": PHRASE}]
        for one in content["annotations"]:
            one["category_id"] = 1
        for image in content["images"]:
            link = copy / split / image["file_name"]
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(source / image["file_name"])
        (copy / split / ANNOTATIONS).write_text(json.dumps(content), encoding="utf-8")
    return copy


@contextmanager
def timed(spent: Path) -> Iterator[None]:
    """Add the processor seconds of this process to what a file says."""
    spent.parent.mkdir(parents=True, exist_ok=True)
    before, begun = float(spent.read_text()) if spent.exists() else 0.0, time.process_time()
    try:
        yield
    finally:
        spent.write_text(str(before + time.process_time() - begun))


def counted(model: str, dataset: ConceptDataset) -> Iterator[dict[str, Any]]:
    """Of each image: counts of cgF1, and its detections with whether they are right at IoU 0.5."""
    asker = Asker(
        cs.load(model), dataset, "text", count=len(dataset), threshold=THRESHOLD, least_score=LEAST_SCORE
    )
    for image in dataset:
        tally = Tally(("boxes",), THRESHOLD)
        for answer in asker.answers(image):
            result = answer.result
            tally.add(answer.phrase, as_pair(answer, False), result.presence, result.presence_logit)
        counts = sum(one.concept["boxes"].counts() for one in tally.phrases.values())
        shown = tally.phrases[PHRASE].precision["boxes"]
        scores, right, _ = shown.by_score()
        yield {
            "counts": np.asarray(counts).tolist(),
            "scores": scores.tolist(),
            "right": right.tolist(),
            "objects": shown.objects,
            "predictions": sum(one.concept["boxes"].predictions for one in tally.phrases.values()),
        }


def statistics(images: Sequence[dict[str, Any]]) -> dict[str, Statistic]:
    """The metrics of `evaluate`, of images that are weighted."""
    counts = np.array([image["counts"] for image in images], np.float64)
    hits, predictions = counts[:, 0], np.array([image["predictions"] for image in images])
    objects = np.array([image["objects"] for image in images], np.float64)
    owner = np.repeat(np.arange(len(images)), [len(image["scores"]) for image in images])
    scores = np.concatenate([image["scores"] for image in images])
    right = np.concatenate([image["right"] for image in images]).astype(bool)
    order = np.argsort(-scores, kind="stable")

    def ap50(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([_ap50(row[owner[order]], right[order], row @ objects) for row in weights])

    return {
        "cgf1": lambda weights: cgf1_of(weights @ counts),
        "f1_50": lambda weights: 2 * (weights @ hits) / (weights @ (predictions + objects)),
        "ap50": ap50,
    }


def _ap50(weights: NDArray[np.float64], right: NDArray[np.bool_], objects: float) -> float:
    """COCO's 101 points, each detection counted so many times."""
    true, all_found = (weights * right).cumsum(), weights.cumsum()
    precision = true / np.maximum(all_found, np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true / objects, RECALL_LEVELS)
    return float(np.append(envelope, 0.0)[at].mean())


def compare(story: Story, arms: Sequence[str]) -> dict[str, Any]:
    """Every arm against nano, and the review against its controls, paired by image."""
    each = {name: statistics(story.judge(name)["found"]) for name in ("before", *arms)}
    draws = Bootstrap(range(len(story.held_out)))

    def pair(first: str, second: str) -> dict[str, Any]:
        return {
            metric: vars(draws.of(lambda w, m=metric: each[first][m](w) - each[second][m](w)))  # type: ignore[misc]
            for metric in METRICS
        }

    controls = [arm for arm in arms if arm != "reviewed"]
    return {
        "figures": {name: {m: vars(draws.of(each[name][m])) for m in METRICS} for name in each},
        "over nano": {arm: pair(arm, "before") for arm in arms},
        "reviewed over": {arm: pair("reviewed", arm) for arm in controls if "reviewed" in arms},
    }


def written(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    compared, arms = found["compared"], found["arms"]
    lines = [
        "# Label, review, fine-tune, label the rest",
        "",
        f"Written by `python benchmarks/review_story.py --data {found['data']} --steps "
        f"{found['steps']}{''.join(f' --arm {arm}' for arm in arms)}`, one thread of {processor_name()}.",
        "",
        f'`nano` labelled {found["labelled"]["images"]} images of `{found["data"]}` ("{PHRASE}"), '
        f"{found['reviewed']} of which were reviewed by the ground truth; {found['held_out']} other images "
        "judge, by boxes. Figures are x 100, with 95% intervals over images; differences are paired.",
        "",
        "| tuned on | images | objects | cgF1 | F1 at IoU 0.5 | AP50 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        f"| nothing: nano | - | - | {_row(compared['figures']['before'])} |",
    ]
    for arm, it in arms.items():
        images, objects = it["exported"]["images"], it["exported"]["objects"]
        lines.append(f"| {ARMS[arm]} | {images} | {objects} | {_row(compared['figures'][arm])} |")
    lines += ["", "| difference | cgF1 | F1 at IoU 0.5 | AP50 |", "| --- | ---: | ---: | ---: |"]
    for arm, it in compared["over nano"].items():
        lines.append(f"| {ARMS[arm]}, over nano | {_row(it, sign=True)} |")
    for arm, it in compared["reviewed over"].items():
        lines.append(f"| the most doubtful reviewed, over {ARMS[arm]} | {_row(it, sign=True)} |")
    lines += [
        "",
        "| reviewed | accepted | rejected | objects there | labelled | deleted | added | boxes drawn | still "
        "missing in accepted |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm, it in arms.items():
        if arm == "unreviewed":
            continue
        done = Counter(it["done"])
        both = {w: done[f"{w}, accepted"] + done[f"{w}, rejected"] for w in ("objects", "deleted", "added")}
        lines.append(
            f"| {ARMS[arm]} | {done['accepted']} | {done['rejected']} | {both['objects']:,} | "
            f"{done['labelled']:,} | {both['deleted']:,} | {both['added']:,} | {done['boxes']:,} | "
            f"{done['missing, accepted']:,} of {done['objects, accepted']:,} |"
        )
    if "rest" in found:
        lines += [
            "",
            f"The {found['rest']['before']['images']} labelled images that nobody looked at, labelled again "
            "with the model that was tuned on the most doubtful:",
            "",
            "| labelled by | objects there | labelled | right | precision | recall |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for when, name in (("before", "nano"), ("after", "the tuned model")):
            it = found["rest"][when]
            lines.append(
                f"| {name} | {it['there']:,} | {it['labelled']:,} | {it['right']:,} | "
                f"{100 * it['right'] / max(1, it['labelled']):.1f} | {100 * it['right'] / it['there']:.1f} |"
            )
    seconds = found["seconds"]
    lines += [
        "",
        "On scenes, which it knew before (cgF1 x 100): "
        + "; ".join(
            f"{ARMS[arm]} {100 * it['scenes']['before']:.1f} before, {100 * it['scenes']['after']:.1f} after"
            for arm, it in arms.items()
        )
        + ".",
        "",
        "Processor seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _row(figures: dict[str, dict[str, float]], sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    cells = []
    for metric in METRICS:
        it = Estimate(**figures[metric])  # type: ignore[arg-type]
        cells.append(f"{100 * it.value:{form}} ({100 * it.low:{form}} to {100 * it.high:{form}})")
    return " | ".join(cells)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="COCO dataset with train and valid")
    parser.add_argument("--label", type=int, default=200, help="images to label")
    parser.add_argument("--review", type=int, default=40, help="images to review")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning, rehearsal among them")
    parser.add_argument("--arm", choices=list(ARMS), action="append", help="all if not given")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/review_story"), help="what is kept between runs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    story = Story(options)
    labelled, seconds, arms = story.label(), {}, {}
    seconds["labelling"] = labelled["seconds"]
    story.judge("before")
    for arm in options.arm or ARMS:
        review, tuned, _ = story.review(arm), story.tune(arm), story.judge(arm)
        seconds[f"review ({arm})"], seconds[f"tuning ({arm})"] = review["seconds"], tuned["seconds"]
        arms[arm] = {**review["found"], "scenes": tuned["found"]}
    found: dict[str, Any] = {
        "data": options.data.name,
        "steps": options.steps,
        "labelled": labelled["found"],
        "reviewed": options.review,
        "held_out": len(story.held_out),
        "arms": arms,
        "compared": compare(story, list(arms)),
        "seconds": seconds,
    }
    if "reviewed" in arms:
        rest = story.rest()
        found["rest"], seconds["labelling the rest"] = rest["found"], rest["seconds"]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "review_story.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = written(found)
    (options.out / "review_story.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""How well does a model find what labelled photographs show, by phrase and by one example box?

    python benchmarks/photograph_splits.py --model nano --data PHOTOS

PHOTOS holds one COCO folder per source (docs/training-nano.md says where they come from). Asked are the
held-out images of each: every name that is there, the names that the data says are absent, and one example
box per name. Scores are cut at 0.5, regions count as found from an IoU of 0.5; cgF1@50 = F1@50 x IL-MCC.
Masks are compared where every object of a source has one, boxes elsewhere. Then words that no training ever
showed are asked of every image: how many are answered with something.

Writes benchmarks/results/photograph_splits.json and photograph_splits.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402  # after the path
import torch  # noqa: E402
from rich.console import Console  # noqa: E402

import conceptseg as cs  # noqa: E402
from conceptseg.choices import PromptKind  # noqa: E402
from conceptseg.data.concept_data import ConceptDataset, open_dataset  # noqa: E402
from conceptseg.data.foreign_words import foreign_words  # noqa: E402
from conceptseg.data.names import Names  # noqa: E402
from conceptseg.data.scenes.phrases import vocabulary  # noqa: E402
from conceptseg.evaluation.evaluate import evaluate  # noqa: E402
from conceptseg.segmenter import Segmenter  # noqa: E402

SOURCES = ("contours", "objects", "garments", "bottles", "hard_hats", "fruit", "everyday")
AIMS = {
    "contours": (75, 75), "objects": (65, 70), "garments": (60, 60), "bottles": (35, 45),
    "hard_hats": (35, 40),
}  # fmt: skip
PROMPTS: tuple[PromptKind, ...] = ("text", "boxes")
FOREIGN_PER_IMAGE = 2
THRESHOLD = 0.5  # of scores


def open_splits(root: Path, limit: int | None) -> dict[str, ConceptDataset]:
    """The held-out images of every source; of `objects` those of kinds that `contours` has not."""
    splits = {name: open_dataset(root / name, absent=0) for name in SOURCES if (root / name).is_dir()}
    if "objects" in splits and "contours" in splits:
        outlined = {name for image in splits["contours"] for name in image.phrases}
        objects = splits["objects"]
        others = [i for i, image in enumerate(objects) if outlined.isdisjoint(image.phrases)]
        splits["objects"] = objects.part(others)
    if limit is not None:
        splits = {name: split.part(_spread(len(split), limit)) for name, split in splits.items()}
    return splits


def measure(segmenter: Segmenter, split: ConceptDataset, prompts: PromptKind) -> dict[str, Any]:
    """Fractions at IoU 0.5, and counts."""
    result = evaluate(segmenter, split, prompts, worst=0, least_score=THRESHOLD, threshold=THRESHOLD)
    kind = "masks" if split.has_masks else "boxes"
    found = result.metrics[kind]
    return {
        "regions": kind,
        "f1_50": found["pmf1_50"],
        "il_mcc": found["il_mcc"],
        "cgf1_50": found["cgf1_50"],
        "cgf1": found["cgf1"],
        "images": len(split),
        "pairs": result.metrics["counts"]["pairs"],
    }


def foreign_of(splits: dict[str, ConceptDataset]) -> list[str]:
    """Words that nothing was ever trained on."""
    names = Names.read()
    known = {phrase for split in splits.values() for phrase in split.phrases}
    return foreign_words([*known, *names.every_word(), *vocabulary()], "held_out")


def answered_foreign(segmenter: Segmenter, split: ConceptDataset, words: Sequence[str]) -> dict[str, int]:
    """How many questions about such words are answered with something."""
    asked = answered = 0
    for image in split:
        rng = np.random.default_rng(zlib.crc32(image.path.name.encode()))
        phrases = [words[int(i)] for i in rng.permutation(len(words))[:FOREIGN_PER_IMAGE]]
        results = segmenter.segment(image.path, text=phrases)
        asked += len(results)
        answered += sum(len(result) > 0 for result in results)
    return {"asked": asked, "answered": answered}


def measure_source(
    name: str, root: Path, limit: int | None, model: str, resolution: int | None
) -> dict[str, Any]:
    """Everything about one source; a process of its own may do it."""
    torch.set_num_threads(1)
    segmenter = cs.load(model, resolution=resolution)
    splits = open_splits(root, limit)
    found: dict[str, Any] = {prompts: measure(segmenter, splits[name], prompts) for prompts in PROMPTS}
    found["foreign"] = answered_foreign(segmenter, splits[name], foreign_of(splits))
    return found


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown, x 100."""
    lines = [
        "| source | images | regions | phrase: F1@50 | IL-MCC | cgF1@50 (aim) | one box: F1@50 (aim) |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, by_prompt in found["sources"].items():
        text, box = by_prompt["text"], by_prompt["boxes"]
        aim = AIMS.get(name, ("-", "-"))
        lines.append(
            f"| {name} | {text['images']} | {text['regions']} | {100 * text['f1_50']:.1f} | "
            f"{text['il_mcc']:.2f} | {100 * text['cgf1_50']:.1f} ({aim[0]}) | "
            f"{100 * box['f1_50']:.1f} ({aim[1]}) |"
        )
    foreign = [by_prompt["foreign"] for by_prompt in found["sources"].values()]
    asked, answered = (sum(it[key] for it in foreign) for key in ("asked", "answered"))
    lines.append("")
    lines.append(
        f"Words it never learned: {answered} of {asked} questions answered "
        f"({100 * answered / max(1, asked):.1f}%; {found['foreign_words']} words)."
    )
    return "\n".join(lines) + "\n"


def _spread(count: int, wanted: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="images of each source, evenly spread; all where not given")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(words)
    splits = open_splits(options.data, options.limit)
    found: dict[str, Any] = {
        "model": options.model,
        "fingerprint": cs.load(options.model).fingerprint,
        "resolution": options.resolution or cs.load(options.model).resolution,
        "foreign_words": len(foreign_of(splits)),
        "sources": {},
    }
    console = Console(stderr=True)
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        pending = {
            name: pool.submit(
                measure_source, name, options.data, options.limit, options.model, options.resolution
            )
            for name in sorted(splits, key=lambda name: -len(splits[name]))
        }
        for name in splits:
            found["sources"][name] = pending[name].result()
            console.print(name, {p: round(found["sources"][name][p]["cgf1_50"], 3) for p in PROMPTS})
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "photograph_splits.json").write_text(json.dumps(found, indent=1) + "\n")
    text = table(found)
    (options.out / "photograph_splits.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

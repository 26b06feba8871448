"""What labelling costs: workers and batch sizes, one more phrase, and memory over a long run.

    python benchmarks/labelling_speed.py workers
    python benchmarks/labelling_speed.py phrases
    python benchmarks/labelling_speed.py memory --images 600 --resolution 64
    python benchmarks/labelling_speed.py ledger

On drawn scenes of 128 px. Time is told twice: by the clock, which on a busy machine says how busy it was, and
of the processors, which says what the work costs. Writes `benchmarks/results/labelling_WHAT.md`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from conceptseg.benchmark.report import processor_name
from conceptseg.data.scenes import make_scenes
from conceptseg.labelling import Concept, LabelSettings, ModelChoice, label
from conceptseg.labelling.answer import answer_batch
from conceptseg.labelling.ledger import Ledger, Task
from conceptseg.labelling.sources import ImageSource
from conceptseg.labelling.writing import write_shard
from conceptseg.segmenter import Segmenter

RESULTS = Path(__file__).resolve().parent / "results"
DRAWN = 50  # scenes
RECORDED = 10_000  # images in the ledger that is measured
PHRASES = ("circle", "star", "square", "coin", "key", "heart", "apple", "bird")
WORKERS_AND_BATCHES = ((0, 1), (0, 4), (0, 16), (1, 4), (2, 4))


@dataclass
class Run:
    """One labelling, measured."""

    seconds: float = 0.0  # by the clock, once the first batch is answered
    processor: float = 0.0  # seconds, until the last answer; of workers also their start, and the sheet
    counted: int = 0  # images in `seconds`
    ledger: int = 0  # bytes
    files: int = 0
    memory: list[tuple[int, float]] = field(default_factory=list)  # images done, resident MiB

    @property
    def images_per_second(self) -> float:
        return self.counted / self.seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("workers", "phrases", "memory", "ledger"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--resolution", type=int, help="that the model sees; if not given, as trained")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    choice = ModelChoice(given.model, resolution=given.resolution)
    segmenter = choice.load()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        photos = draw(Path(name) / "scenes", given.images)
        kinds = {"workers": workers, "phrases": phrases, "memory": memory, "ledger": ledger}
        table = kinds[given.what](photos, choice, segmenter, Path(name))
    options = f" --images {given.images}" + (f" --resolution {given.resolution}" if given.resolution else "")
    text = "\n".join(
        [
            f"# Labelling: {given.what}",
            "",
            f"Written by `python benchmarks/labelling_speed.py {given.what}{options}`.",
            "",
            f"{processor_name()}, {len(os.sched_getaffinity(0))} core(s) for it, one thread per process; "
            f"load of the machine before: {load:.1f}. {given.model} at {segmenter.resolution} px, "
            f"{given.images} images.",
            "",
            *table,
            "",
        ]
    )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"labelling_{given.what}.md").write_text(text, encoding="utf-8")
    print(text)


def draw(folder: Path, count: int) -> Path:
    """So many files; after the first of them they are copies, for drawing takes longer than copying."""
    photos = make_scenes(folder, min(count, DRAWN), 0, size=128, workers=1).parent
    drawn = sorted(photos.glob("*.jpg"))
    for number in range(DRAWN, count):
        shutil.copy(drawn[number % DRAWN], photos / f"copy-{number:06d}.jpg")
    return photos


def workers(photos: Path, choice: ModelChoice, segmenter: Segmenter, folder: Path) -> list[str]:
    lines = [
        "| workers | batch | images/s, by the clock | processor seconds, all in all |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for count, batch in WORKERS_AND_BATCHES:
        run = measure(photos, choice, segmenter, folder / f"{count}-{batch}", PHRASES[:1], count, batch)
        lines.append(f"| {count} | {batch} | {run.images_per_second:.2f} | {run.processor:.1f} |")
        print(lines[-1], flush=True)
    return lines


def phrases(photos: Path, choice: ModelChoice, segmenter: Segmenter, folder: Path) -> list[str]:
    lines = ["| phrases | processor ms per image | ledger, bytes per image |", "| ---: | ---: | ---: |"]
    images = sum(1 for _ in photos.glob("*.jpg"))
    for count in (1, 2, 4, 8):
        run = measure(photos, choice, segmenter, folder / str(count), PHRASES[:count], 0, 8)
        lines.append(f"| {count} | {1000 * run.processor / images:.0f} | {run.ledger / images:,.0f} |")
        print(lines[-1], flush=True)
    return lines


def memory(photos: Path, choice: ModelChoice, segmenter: Segmenter, folder: Path) -> list[str]:
    run = measure(photos, choice, segmenter, folder / "long", PHRASES[:1], 0, 8)
    images = run.memory[-1][0]
    lines = ["| images done | resident, MiB |", "| ---: | ---: |"]
    for part in range(11):
        done, mebibytes = min(run.memory, key=lambda row: abs(row[0] - part * images / 10))
        lines.append(f"| {done:,} | {mebibytes:.0f} |")
    lines += [
        "",
        f"{1000 * run.processor / images:.0f} ms of a processor per image, {run.images_per_second:.2f} "
        f"images/s by the clock; the ledger ended at {run.ledger / images:,.0f} bytes per image, the COCO "
        f"files at {run.files / images:,.0f}.",
    ]
    return lines


def ledger(photos: Path, choice: ModelChoice, segmenter: Segmenter, folder: Path) -> list[str]:
    """What the one process costs that keeps the ledger; answers are those of the scenes, over and over."""
    settings = LabelSettings(tuple(Concept(phrase, phrase, 0.4) for phrase in PHRASES[:1]), choice)
    tasks = [Task(number, str(path), path.name) for number, path in enumerate(sorted(photos.glob("*.jpg")))]
    answers = answer_batch(segmenter, settings, tasks[:DRAWN])
    sources = (ImageSource(f"/photos/{n}.jpg", f"{n}.jpg") for n in range(RECORDED))
    lines = ["| what | images per processor second |", "| --- | ---: |"]

    def row(what: str, work: Callable[[], object]) -> None:
        before = processor_seconds()
        work()
        lines.append(f"| {what} | {RECORDED / (processor_seconds() - before):,.0f} |")

    with Ledger.open(folder / "ledger", {}, 1000, {}) as book:

        def record() -> None:
            for batch in book.batches(8):
                book.record([replace(answers[task.id % len(answers)], id=task.id) for task in batch])

        def write() -> None:
            for shard in book.shards_to_write("coco"):
                write_shard(book, shard, "coco", settings.names)

        row("taken up", lambda: book.register(sources))
        row("answers kept, in batches of 8", record)
        row("written as COCO", write)
    size = (folder / "ledger" / "ledger.sqlite").stat().st_size
    coco = sum(path.stat().st_size for path in (folder / "ledger" / "coco").iterdir())
    objects = sum(len(answer.answer["annotations"]) for answer in answers if answer.answer) / len(answers)
    return [
        *lines,
        "",
        f"{RECORDED:,} images of {objects:.1f} objects: {size / RECORDED:,.0f} bytes per image in the "
        f"ledger, {coco / RECORDED:,.0f} in COCO files.",
    ]


def measure(
    photos: Path,
    choice: ModelChoice,
    segmenter: Segmenter,
    out: Path,
    asked: Sequence[str],
    count: int,
    batch: int,
) -> Run:
    run, first = Run(), []

    def progress(done: int, wanted: int) -> None:
        now = time.monotonic()
        run.memory.append((done, resident()))
        run.processor = processor_seconds() - before
        if done and not first:
            first.append((now, done))
        elif done:
            run.seconds, run.counted = now - first[0][0], done - first[0][1]

    settings = LabelSettings(tuple(Concept(phrase, phrase, 0.4) for phrase in asked), choice)
    before = processor_seconds()
    label([photos], settings, out, workers=count, batch_size=batch, segmenter=segmenter, progress=progress)
    if count:  # their time is known when they have ended
        run.processor = processor_seconds() - before
    run.ledger = (out / "ledger.sqlite").stat().st_size
    run.files = sum(path.stat().st_size for path in (out / "coco").iterdir())
    return run


def processor_seconds() -> float:
    """Of this process, and of workers that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def resident() -> float:
    """MiB that this process holds now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()

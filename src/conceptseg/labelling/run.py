"""Label images: find what is left, answer it, keep it, write it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from conceptseg.choices import LabelFormat
from conceptseg.errors import OptionError
from conceptseg.extras import require
from conceptseg.labelling.contact_sheet import IMAGES, write_contact_sheet
from conceptseg.labelling.ledger import Ledger, Outcome, Task, has_ledger
from conceptseg.labelling.outputs import check_formats
from conceptseg.labelling.ray_workers import RayWorkers
from conceptseg.labelling.restart import throw_away
from conceptseg.labelling.settings import LabelSettings
from conceptseg.labelling.sources import check_sources, find_sources
from conceptseg.labelling.workers import LocalWorkers, ThisProcess
from conceptseg.labelling.writing import write_shard
from conceptseg.segmenter import Segmenter

PREVIEW = "preview"  # folder in that of the labels
PROBLEMS_SHOWN = 1000


class Workers(Protocol):
    """What answers batches."""

    def answer(self, batches: Iterator[list[Task]]) -> Iterator[list[Outcome]]: ...


@dataclass(frozen=True)
class Problem:
    """An image without an answer."""

    state: str  # "skipped": it is no image that can be read; "failed": each of three times
    path: str
    error: str


@dataclass(frozen=True)
class LabelReport:
    """How a labelling stands."""

    folder: Path
    answered: int  # images, in this run
    states: dict[str, int]  # images that are done, left, failed, skipped
    objects: dict[str, tuple[int, int]]  # of each concept: objects, and images that show some
    problems: list[Problem] = field(default_factory=list)  # the first thousand
    kept: list[Path] = field(default_factory=list)  # files that somebody changed, left as they are

    def to_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "answered": self.answered,
            "images": self.states,
            "concepts": {
                name: {"objects": objects, "images": images}
                for name, (objects, images) in self.objects.items()
            },
            "problems": [vars(problem) for problem in self.problems],
            "kept": [str(path) for path in self.kept],
        }


def label(
    sources: Iterable[str | os.PathLike[str]],
    settings: LabelSettings,
    out: Path,
    *,
    formats: Sequence[LabelFormat] = ("coco",),
    workers: int = 0,
    ray: str | None = None,
    batch_size: int = 8,
    shard_size: int = 1000,
    resume: bool = False,
    restart: bool = False,
    segmenter: Segmenter | None = None,
    progress: Callable[[int, int], None] = lambda done, wanted: None,
) -> LabelReport:
    """Label images, or go on with it: what is answered stays so, and only what is left is done.

    Args:
        sources: folders, patterns, manifests and files; see `find_sources`.
        settings: what is asked, and of which model.
        out: gets the ledger and a folder per format.
        formats: of `outputs.FORMATS`; one that is added later is written from the ledger.
        workers: processes, each of one thread; 0: this process, with all its threads.
        ray: address of a Ray cluster whose actors answer instead: so many as `workers`; 0: one for each core
            but one. "local" starts one on this machine.
        batch_size: images that a worker answers at a time; so many are lost at most when it is killed.
        shard_size: images in a file of the formats that put many in one.
        resume: there has to be something to go on with.
        restart: throw away what was labelled before.
        segmenter: the model of `settings`, if it is loaded already.
        progress: called with how many images are answered, and of how many.

    Raises:
        ConceptSegError: an option, a prompt, a source or the model is wrong, the folder is another process's,
            or its labels were made with other settings. Without Ray, `ray` is a MissingDependencyError.
    """
    wanted = check_formats(formats)
    for name, value, least in (
        ("workers", workers, 0),
        ("batch_size", batch_size, 1),
        ("shard_size", shard_size, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError(f"{name} must be a whole number of at least {least}; got {value!r}")
    if resume and restart:
        raise OptionError("resume goes on and restart starts anew; give one of them")
    if resume and not has_ledger(out):
        raise OptionError(f"{out} holds no labels to go on with; leave out --resume to begin")
    if ray is not None:
        require("ray", "labelling on a cluster")
    named = list(sources)
    check_sources(named, out)
    segmenter = segmenter or settings.model.load()
    fingerprint = settings.fingerprint(segmenter)
    if restart:
        throw_away(out)
    with Ledger.open(out, fingerprint, shard_size, settings.model.kept()) as ledger:
        ledger.register(find_sources(named, out))
        ledger.look_again()
        before = ledger.states()
        written = _Writing(ledger, wanted, settings.names)
        pool: AbstractContextManager[Workers] = nullcontext(ThisProcess(settings, segmenter))
        if ray is not None:
            pool = RayWorkers(settings, ray, workers)
        elif workers:
            pool = LocalWorkers(settings, workers)
        with pool as answering:
            _answer(ledger, answering, batch_size, written, progress)
        written.rest()
        states = ledger.states()
        if states["done"]:
            write_contact_sheet(out, ledger.spread(IMAGES), settings.names)
        found = ledger.objects_per_concept()
        return LabelReport(
            folder=out,
            answered=before["left"] - states["left"],
            states=states,
            objects={name: found.get(number, (0, 0)) for number, name in enumerate(settings.names)},
            problems=[Problem(*row) for row in islice(ledger.problems(), PROBLEMS_SHOWN)],
            kept=written.kept,
        )


def preview(
    sources: Iterable[str | os.PathLike[str]], settings: LabelSettings, out: Path, count: int, **options: Any
) -> LabelReport:
    """Label the first so many images into a folder of their own, each time anew, for the contact sheet.

    Args:
        options: those of `label`, but `resume` and `restart`.
    """
    if count < 1:
        raise OptionError(f"preview must be at least 1 image; got {count}")
    first = [source.path for source in islice(find_sources(sources, out), count)]
    return label(first, settings, out / PREVIEW, restart=True, **options)


class _Writing:
    """Writes shards as they become complete, and the others at the end."""

    def __init__(self, ledger: Ledger, formats: Sequence[LabelFormat], names: Sequence[str]) -> None:
        self._ledger, self._formats, self._names = ledger, formats, names
        self.kept: list[Path] = []

    def complete(self, shards: Iterable[int]) -> None:
        for shard in sorted(shards):
            if self._ledger.complete(shard):
                for form in self._formats:
                    self.kept += write_shard(self._ledger, shard, form, self._names)

    def rest(self) -> None:
        for form in self._formats:
            for shard in self._ledger.shards_to_write(form):
                self.kept += write_shard(self._ledger, shard, form, self._names)


def _answer(
    ledger: Ledger,
    workers: Workers,
    batch_size: int,
    written: _Writing,
    progress: Callable[[int, int], None],
) -> None:
    left = ledger.states()["left"]
    done = 0
    progress(done, left)
    batches = ledger.batches(batch_size)
    while True:
        for outcomes in workers.answer(batches):
            ledger.record(outcomes)
            done += sum(outcome.state != "failed" for outcome in outcomes)
            written.complete({ledger.shard_of(outcome.id) for outcome in outcomes})
            progress(done, left)
        again = ledger.failed_once()
        if not again:
            break
        batches = iter([[task] for task in again])

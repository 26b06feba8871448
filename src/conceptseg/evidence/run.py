"""Measure claims: in pieces, by several processes, until all is done or the time is over.

WORK/study.json, WORK/F2-scenes/0007.json    pieces: see `study.work`
OUT/F2-scenes.json                           a claim on its pictures, once every piece is there
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from conceptseg.errors import OptionError
from conceptseg.evidence.claims import MEASUREMENTS
from conceptseg.evidence.measurement import Measurement, Options, Row
from conceptseg.evidence.pictures import DrawnScenes, Photographs, Pictures
from conceptseg.evidence.recipe import EvidenceRecipe
from conceptseg.segmenter import Segmenter
from conceptseg.study.pinned import load_pinned, weights_digest
from conceptseg.study.table import Table
from conceptseg.study.work import Piece, begin_work, do_pieces, done_rows, with_helpers


@dataclass(frozen=True)
class EvidenceRun:
    """What one command measures.

    Attributes:
        recipe: model, weights, seeds.
        claims: numbers of `MEASUREMENTS`.
        work: folder of the pieces.
        out: folder of the tables.
        data: folder of photographs; None: drawn scenes alone.
        pictures: of each claim; None: as many as it asks for.
        half_trained: the model at half of its training, for G2; None: it was not kept.
    """

    recipe: EvidenceRecipe
    claims: tuple[str, ...]
    work: Path
    out: Path
    data: Path | None = None
    pictures: int | None = None
    half_trained: str | None = None

    def __post_init__(self) -> None:
        unknown = [claim for claim in self.claims if claim not in MEASUREMENTS]
        if unknown or not self.claims:
            raise OptionError(
                f"no measurement of {', '.join(unknown) or 'nothing'}; choose from {', '.join(MEASUREMENTS)}"
            )
        if self.pictures is not None and self.pictures < 2:
            raise OptionError(f"pictures is {self.pictures}; a claim needs two or more")

    def sources(self, claim: str) -> tuple[str, ...]:
        """Which pictures a claim is measured on."""
        with_photographs = self.data is not None and MEASUREMENTS[claim].photographs
        return (DrawnScenes.name, Photographs.name) if with_photographs else (DrawnScenes.name,)

    def count(self, claim: str) -> int:
        return self.pictures or MEASUREMENTS[claim].pictures

    def open(self, source: str, claim: str, size: int) -> Pictures:
        """The pictures of a claim."""
        if source == DrawnScenes.name:
            return DrawnScenes(self.count(claim), size, self.recipe.seed)
        assert self.data is not None
        return Photographs(self.data, self.count(claim), size, self.recipe.seed)

    def pieces(self, claim: str, source: str) -> list[Piece]:
        """All pieces of a claim on its pictures; fewer photographs than wanted leave the last ones empty."""
        together = MEASUREMENTS[claim].together
        return [Piece(f"{claim}-{source}", i) for i in range(-(-self.count(claim) // together))]


@dataclass(frozen=True)
class Progress:
    """How far a claim is."""

    claim: str
    source: str
    done: int
    pieces: int


def run_evidence(
    run: EvidenceRun, *, minutes: float | None = None, processes: int = 1, say: bool = True
) -> list[Progress]:
    """Measure what is not measured yet, and write the tables that are complete.

    Args:
        run: what.
        minutes: begin nothing after so long; None: go on to the end.
        processes: that share the work.
        say: print each piece.

    Returns:
        Of every claim and its pictures, how many pieces are done.

    Raises:
        CheckpointError: the weights are not those of the recipe.
        DataError: the folder of the work is about something else, or photographs cannot be read.
        OptionError: no process.
    """
    if processes < 1:
        raise OptionError(f"processes is {processes}; one at least has to do the work")
    segmenter = load_pinned(run.recipe.model, run.recipe.weights)
    setup = describe(run, segmenter)
    begin_work(run.work, setup)
    stop_at = float("inf") if minutes is None else time.time() + 60 * minutes
    with_helpers(processes - 1, measure_pieces, (run, stop_at, say))
    progress = []
    for claim in run.claims:
        for source in run.sources(claim):
            pieces = run.pieces(claim, source)
            done = sum(piece.file(run.work).is_file() for piece in pieces)
            progress.append(Progress(claim, source, done, len(pieces)))
            rows = done_rows(run.work, pieces)
            if rows:
                table = Table({**setup, "claim": claim, "pictures": source}, MEASUREMENTS[claim].finish(rows))
                table.save(run.out / f"{claim}-{source}.json")
    return progress


def measure_pieces(run: EvidenceRun, stop_at: float, say: bool) -> None:
    """What every process does: load the model, and take one free piece after the other."""
    torch.set_num_threads(1)
    segmenter = load_pinned(run.recipe.model, run.recipe.weights)
    half = None if run.half_trained is None else load_pinned(run.half_trained, None)
    options = Options(run.recipe.seed, run.recipe.fresh_seeds, half)
    for claim in run.claims:
        for source in run.sources(claim):
            pieces = run.pieces(claim, source)
            if all(piece.file(run.work).is_file() for piece in pieces):
                continue
            pictures = run.open(source, claim, segmenter.resolution)

            work = partial(_measure_piece, MEASUREMENTS[claim], segmenter, pictures, options, say)
            do_pieces(run.work, pieces, work, stop_at)


def _measure_piece(
    measurement: Measurement,
    segmenter: Segmenter,
    pictures: Pictures,
    options: Options,
    say: bool,
    piece: Piece,
) -> list[Row]:
    first = piece.number * measurement.together
    numbers = range(first, min(first + measurement.together, len(pictures)))
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(piece.number)  # losses sample points
        rows = measurement.measure(segmenter, pictures, numbers, options)
    if say:
        spent = time.process_time() - began
        print(f"{piece.group} {piece.number}: {len(rows)} rows, {spent:.1f} CPU seconds", flush=True)
    return rows


def describe(run: EvidenceRun, segmenter: Segmenter) -> dict[str, object]:
    """What every table of this work says of itself."""
    return {
        "model": str(segmenter.config.provenance.get("name", run.recipe.model)),
        "weights": weights_digest(run.recipe.model),
        "fingerprint": segmenter.fingerprint,
        "encoder": segmenter.config.architecture.exemplar.kind,
        "resolution": segmenter.resolution,
        "dtype": str(segmenter.dtype).removeprefix("torch."),
        "seed": run.recipe.seed,
        "fresh_seeds": list(run.recipe.fresh_seeds),
        "half_trained": None if run.half_trained is None else weights_digest(run.half_trained),
        "wanted": run.pictures,  # None: what each claim asks for
    }

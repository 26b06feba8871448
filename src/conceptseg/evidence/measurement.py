"""How a claim is settled: rows of a table give lines and a verdict; a measurement is work that gives rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from conceptseg.evidence.pictures import Pictures
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Estimate
from conceptseg.study.table import Table

Row: TypeAlias = dict[str, Any]
Word: TypeAlias = Literal["confirmed", "refuted", "depends", "cannot be tested here"]


@dataclass(frozen=True)
class Line:
    """One line of a claim's table.

    Attributes:
        name: what was measured.
        estimate: with its interval.
        style: format of the numbers, such as ".2f" or ".1%".
        control: it says what happens without the cause that the claim names.
        group: panel of the figure that it is drawn in; "" leaves it out.
    """

    name: str
    estimate: Estimate
    style: str = ".2f"
    control: bool = False
    group: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the lines say about the claim.

    Attributes:
        word: the verdict.
        why: one sentence; the figures stand in `effect`.
        effect: names of the lines that carry it.
    """

    word: Word
    why: str
    effect: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """What a recipe says about all measurements."""

    seed: int = 0
    fresh_seeds: tuple[int, ...] = (0, 1, 2)  # of freshly initialised encoders
    half_trained: Segmenter | None = None  # the model at half of its training, where it was kept


class Settled(ABC):
    """One claim, settled by a table.

    Attributes:
        claim: "F2".
        least: examples that the rules of evidence ask for; with fewer there is no verdict.
        photographs: it is measured on photographs too.
        changed: in words, for the head of the report.
        parts: what `draw_parts` shows, in words.
    """

    claim: str
    least: int = 200
    photographs: bool = True
    changed: str = ""
    parts: str = "What its parts do, before and after"

    @property
    def table(self) -> str:
        """Name of the table, of which there is one for each kind of pictures."""
        return self.claim

    @property
    def command(self) -> str:
        """What measures it."""
        data = " --data PHOTOS" if self.photographs else ""
        return f"python benchmarks/evidence.py run --claims {self.claim}{data}"

    @abstractmethod
    def lines(self, table: Table) -> list[Line]:
        """Every line of the report, in order; none where the table says nothing of the claim yet."""

    @abstractmethod
    def verdict(self, lines: dict[str, Line]) -> Verdict:
        """By rule, from the lines."""

    def draw_parts(self, table: Table, path: Path) -> bool:
        """Draw what lines cannot say, `parts` in words, as a PNG; whether there is anything."""
        return False

    def examples(self, table: Table) -> int:
        """How many examples there are, in the sense of the rules."""
        return len(table)


class Measurement(Settled):
    """A claim that needs no training, and the work that measures it.

    Attributes:
        pictures: how many are looked at, some of which may give no row.
        together: of them in one piece of work.
    """

    pictures: int = 260
    together: int = 4

    @abstractmethod
    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        """Rows of these pictures, each with `scene`, its number; what cannot be measured gives none."""

    def finish(self, rows: list[Row]) -> list[Row]:
        """What is kept of the rows, when all are there; by default they themselves."""
        return rows

"""A command that has ended, and what an error must look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Finished:
    """What a command left on the screen."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Finished]


def assert_one_error(finished: Finished, *words: str) -> None:
    """Exit code 2, nothing on standard output, one line `error: ...` with these words."""
    assert finished.code == 2
    assert finished.out == ""
    (line,) = finished.err.splitlines()
    assert line.startswith("error: ")
    assert [word for word in words if word not in line] == []

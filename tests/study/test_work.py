"""Work in pieces: done once, shared, stopped and gone on with."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conceptseg.errors import DataError
from conceptseg.study.work import Piece, begin_work, do_pieces, done_rows, with_helpers

PIECES = [Piece("A", i) for i in range(6)]


def log(folder: Path, piece: Piece, pause: float = 0.0) -> list[dict[str, Any]]:
    (folder / f"did-{piece.number}-{os.getpid()}").touch()
    time.sleep(pause)
    return [{"piece": piece.number, "unknown": float("nan")}]


def share(folder: Path, wait_for: int) -> None:
    """What a process does: begin when all are there, so that none has done everything before."""
    (folder / f"here-{os.getpid()}").touch()
    while len(list(folder.glob("here-*"))) < wait_for:
        time.sleep(0.01)
    do_pieces(folder, PIECES, partial(log, folder, pause=0.2))


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    assert do_pieces(tmp_path, PIECES[:2], partial(log, tmp_path)) == PIECES[:2]
    assert done_rows(tmp_path, PIECES) is None
    assert do_pieces(tmp_path, PIECES, partial(log, tmp_path)) == PIECES[2:]
    assert done_rows(tmp_path, PIECES) == [{"piece": i, "unknown": None} for i in range(6)]


def test_no_piece_is_begun_after_the_deadline(tmp_path: Path) -> None:
    assert do_pieces(tmp_path, PIECES, partial(log, tmp_path), stop_at=time.time()) == []
    assert done_rows(tmp_path, PIECES) is None


def test_a_piece_that_fails_is_left_for_the_next_run(tmp_path: Path) -> None:
    def fail(piece: Piece) -> list[dict[str, Any]]:
        if piece.number == 1:
            raise KeyboardInterrupt
        return [{}]

    with pytest.raises(KeyboardInterrupt):
        do_pieces(tmp_path, PIECES, fail)
    assert do_pieces(tmp_path, PIECES, partial(log, tmp_path)) == PIECES[1:]


@pytest.mark.slow
def test_two_processes_share_the_pieces_and_do_none_twice(tmp_path: Path) -> None:
    with_helpers(1, share, (tmp_path, 2))
    did = [path.name.split("-")[1:] for path in tmp_path.glob("did-*")]
    assert sorted(int(number) for number, _ in did) == list(range(6))
    assert len({process for _, process in did}) == 2
    assert not multiprocessing.active_children()


def test_other_work_in_the_folder_is_refused(tmp_path: Path) -> None:
    begin_work(tmp_path, {"weights": "a", "seeds": (0, 1)})
    begin_work(tmp_path, {"weights": "a", "seeds": (0, 1)})
    with pytest.raises(DataError, match="weights a there, b here"):
        begin_work(tmp_path, {"weights": "b", "seeds": (0, 1)})

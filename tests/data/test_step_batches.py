"""Batches made ahead: what a worker's error looks like."""

from __future__ import annotations

import pytest

from conceptseg.data.batch import Batch
from conceptseg.data.step_batches import batches_from
from conceptseg.errors import DataError


class Broken:
    """Goes wrong at its first step."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __len__(self) -> int:
        return 2

    def __getitem__(self, step: int) -> Batch:
        raise DataError("a.png is 3 x 4 pixels: too small")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_worker_is_one_line_and_has_its_type(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(batches_from(Broken(workers), 0))
    assert str(caught.value) == "a.png is 3 x 4 pixels: too small"

"""Batches made ahead: what a worker's error looks like."""

from __future__ import annotations

import pytest
from torch._utils import ExceptionWrapper

from conceptseg.data.batch import Batch
from conceptseg.data.step_batches import batches_from
from conceptseg.errors import DataError


class Broken:
    """As torch hands on what went wrong in a worker."""

    workers = 0

    def __init__(self, wrapped: bool) -> None:
        self.wrapped = wrapped

    def __len__(self) -> int:
        return 2

    def __getitem__(self, step: int) -> Batch:
        try:
            raise DataError("a.png is 3 x 4 pixels: too small")
        except DataError:
            if self.wrapped:
                ExceptionWrapper(where="in DataLoader worker process 0").reraise()
            raise


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_of_a_worker_is_one_line_and_has_its_type(wrapped: bool) -> None:
    with pytest.raises(DataError) as caught:
        list(batches_from(Broken(wrapped), 0))
    assert str(caught.value) == "a.png is 3 x 4 pixels: too small"

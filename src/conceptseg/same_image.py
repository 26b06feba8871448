"""Results that are drawn or joined together must be of one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conceptseg.errors import OptionError

if TYPE_CHECKING:
    from conceptseg.result import Result


def check_same_image(results: Sequence[Result], what: str) -> None:
    """Raises:
    OptionError: no result, or results on different images.
    """
    if not results:
        raise OptionError(f"there is no result to {what}")
    first = next((result.image for result in results if result.image is not None), None)
    for result in results:
        if result.image_size != results[0].image_size or (
            result.image is not None and result.image is not first and not np.array_equal(result.image, first)  # type: ignore[arg-type]
        ):
            raise OptionError(f"these results are of different images; {what} those of each on their own")

"""The tuned weights averaged with those of the start (WiSE-FT): how far back costs nothing on the new data.

Source: Wortsman et al. 2022, arXiv:2109.01903.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from conceptseg.train.task import Task
from conceptseg.train.validation import Validate, Validation

TRIED = (0.85, 0.7, 0.55, 0.4)  # shares of the tuned weights, one after the other


def average_with_start(
    task: Task, start: Mapping[str, Tensor], look: Validate, share: float | None, loss: float
) -> float:
    """Average a tuned detector's weights with those that it started from.

    Args:
        task: tuned; its detector gets the averaged weights.
        start: state of the detector before; the same names and shapes.
        look: at held-out images of the new data.
        share: of the tuned weights; None: the least of those tried, from the largest on, that costs the
            look's deciding figure no more than `loss`.
        loss: a share of that figure.

    Returns:
        The share of the tuned weights that was taken.
    """
    tuned = {name: value.detach().clone() for name, value in task.detector.state_dict().items()}
    if share is None:
        share = _least_share(task, start, tuned, look, loss)
    _load(task, start, tuned, share)
    return share


def _least_share(
    task: Task, start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], look: Validate, loss: float
) -> float:
    found = look(task.eval(), 0)
    if not _says_something(found):
        return 1.0
    chosen = 1.0
    for share in TRIED:
        _load(task, start, tuned, share)
        if look(task, 0).values[found.decides] < (1 - loss) * found.values[found.decides]:
            break
        chosen = share
    return chosen


def _says_something(found: Validation) -> bool:
    """Whether anything is found at all: where nothing is, any weights are as good as any other."""
    return found.larger_is_better and found.values[found.decides] > 0


def _load(task: Task, start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> None:
    """Put the average into the detector; equal weights, as those of frozen parts, stay as they are."""
    state = {}
    for name, value in tuned.items():
        first = start[name].to(value.device)
        plain = share == 1 or not value.is_floating_point() or bool((first == value).all())
        state[name] = value if plain else first.lerp(value.to(first.dtype), share).to(value.dtype)
    task.detector.load_state_dict(state)

"""What keeps a tuned model able to do what it could: rehearsal, and weights averaged with the start's.

A model that is shown nothing but new pictures forgets the old ones. Rehearsal shows it some of those again,
in steps of their own. Averaging takes the tuned weights part of the way back to those of the start; so near
each other, what lies between them is often as good on the new pictures and better on the old.
Sources: Robins 1995, doi:10.1080/09540099550039318; WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903.
"""

from __future__ import annotations

from dataclasses import dataclass

from conceptseg.models.config import ModelConfig
from conceptseg.train.run_config import check

REHEARSAL = 0.25  # share of the steps, where there is something to rehearse and nothing else is said


@dataclass(frozen=True)
class KeepConfig:
    """How much is done against forgetting."""

    rehearsal: float | None = None  # share of the steps; null: a quarter where there is something to rehearse
    data: str | None = None  # dataset to rehearse; null: scenes, if the model knows them
    scenes: int = 400  # that are drawn for it
    tuned_share: float | None = None  # of what is saved, beside the start's weights; null: see `loss`
    loss: float = 0.01  # share of the validation figure that the least `tuned_share` may cost

    def __post_init__(self) -> None:
        share, tuned = self.rehearsal, self.tuned_share
        check(share is None or 0 <= share <= 0.9, "keep.rehearsal", share, "a share from 0 to 0.9")
        check(self.scenes >= 2, "keep.scenes", self.scenes, "2 or more")
        check(tuned is None or 0 < tuned <= 1, "keep.tuned_share", tuned, "above 0 and up to 1")
        check(0 <= self.loss < 1, "keep.loss", self.loss, "a share from 0 to below 1")


def rehearsal_share(keep: KeepConfig, config: ModelConfig) -> float:
    """The share of the steps that rehearse; none where nobody knows what the model has seen."""
    if keep.rehearsal is not None:
        return keep.rehearsal
    return REHEARSAL if keep.data is not None or config.knows_scenes else 0.0

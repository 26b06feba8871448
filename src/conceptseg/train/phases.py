"""How alignment is weighed as training goes on: a little, then more, then a little again."""

from __future__ import annotations

from dataclasses import dataclass

from conceptseg.errors import ConfigError


@dataclass(frozen=True)
class AlignmentPhase:
    """A stretch of training."""

    until: float = 1.0  # share of the steps at which the phase ends
    weight: float = 0.3  # of the alignment losses
    rate: float = 1.0  # factor on the learning rate

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ConfigError(f"a phase ends at {self.until}; give a share of the steps, above 0 and up to 1")
        if self.weight < 0 or self.rate <= 0:
            raise ConfigError(
                f"a phase has weight {self.weight} and rate {self.rate}; give weight >= 0 and rate > 0"
            )


PROGRESSIVE = (AlignmentPhase(0.2, 0.1, 0.1), AlignmentPhase(0.7, 0.3, 0.5), AlignmentPhase(1.0, 0.1, 1.0))
JOINT = (AlignmentPhase(1.0, 0.3, 1.0),)


def check_phases(phases: tuple[AlignmentPhase, ...]) -> None:
    """Raises:
    ConfigError: the ends do not rise, or the last is not 1.
    """
    ends = [phase.until for phase in phases]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1.0:
        raise ConfigError(f"the phases end at {ends}; their ends must rise and the last must be 1.0")


def phase_at(progress: float, phases: tuple[AlignmentPhase, ...] = PROGRESSIVE) -> AlignmentPhase:
    """The phase that a share of the training falls into; a phase's end belongs to the next one.

    Args:
        progress: share of the steps that are done, 0 to 1.
        phases: in order, each with the share of the steps at which it ends.

    Raises:
        ConfigError: progress outside 0 to 1.
    """
    if not 0 <= progress <= 1:  # NaN fails the comparison too
        raise ConfigError(f"training progress is {progress}; it must be from 0 to 1")
    for phase in phases:
        if progress < phase.until:
            return phase
    return phases[-1]

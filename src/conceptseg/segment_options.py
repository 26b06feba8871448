"""The options of `segment` and `segment_many`, written once for all on the way to the raw outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, cast

import numpy as np

from conceptseg.choices import DedupeMode, PresenceMode, check_choice
from conceptseg.errors import OptionError, shown
from conceptseg.models.config import ModelConfig
from conceptseg.presence_reading import PresenceReading
from conceptseg.prompts import check_thresholds

Method = TypeVar("Method", bound=Callable[..., Any])


class SegmentOptions(TypedDict, total=False):
    """See `Segmenter.segment`."""

    threshold: float | Sequence[float]
    presence: PresenceMode | None
    dedupe: DedupeMode | None
    max_instances: int | None
    return_raw: bool


DEFAULTS = SegmentOptions(threshold=0.5, presence=None, dedupe=None, max_instances=None, return_raw=False)


@dataclass(frozen=True)
class ReadingOptions:
    """How raw outputs are read; made by `check_options`."""

    thresholds: tuple[float, ...]  # one per phrase
    presence: PresenceReading
    dedupe: DedupeMode = "none"
    max_instances: int | None = None
    return_raw: bool = False
    mask_margin: float | None = None


def check_options(config: ModelConfig, phrases: int, options: SegmentOptions) -> ReadingOptions:
    """Check what a caller of `segment` asked for; what is None is as the model's config says.

    Args:
        config: of the model.
        phrases: how many are asked.
        options: those that were given.

    Raises:
        OptionError: an unknown choice, an impossible value, or a maximum below 1.
        TypeError: there is no option of this name.
    """
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"got an unexpected keyword argument {name!r}; options are {', '.join(DEFAULTS)}")
    chosen = cast(SegmentOptions, {**DEFAULTS, **options})
    most, dedupe = chosen["max_instances"], chosen["dedupe"]
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise OptionError(f"max_instances must be None or a whole number of at least 1; got {shown(most)}")
    if not isinstance(chosen["return_raw"], (int, np.bool_)):
        raise OptionError(f"return_raw must be True or False; got {shown(chosen['return_raw'])}")
    if dedupe is not None:
        check_choice("dedupe", dedupe, DedupeMode)
    return ReadingOptions(
        thresholds=tuple(check_thresholds(chosen["threshold"], phrases)),
        presence=PresenceReading.of(config, chosen["presence"]),
        dedupe=config.dedupe if dedupe is None else dedupe,
        max_instances=most,
        return_raw=bool(chosen["return_raw"]),
        mask_margin=config.mask_margin,
    )


def names_options(method: Method) -> Method:
    """Have `help` and editors show the options of a method that takes `**options: Unpack[SegmentOptions]`."""
    signature = inspect.signature(method)
    own = [
        given for given in signature.parameters.values() if given.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    kinds = SegmentOptions.__annotations__
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kinds[name])
        for name, value in DEFAULTS.items()
    ]
    vars(method)["__signature__"] = signature.replace(parameters=[*own, *named])
    return method

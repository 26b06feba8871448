"""Fit the scale and offset of presence, from labels or from a teacher's answers."""

from __future__ import annotations

import dataclasses
import math

import torch

from conceptseg.errors import OptionError
from conceptseg.evaluation.calibration import fit_to_labels, fit_to_teacher
from conceptseg.presence.observe import observe
from conceptseg.presence.repairs.case import Method, RepairCase, RepairOptions, write_with
from conceptseg.presence_reading import PresenceReading

# Two numbers are fitted: of many images with many phrases each, some present and as many absent ones do.
ENOUGH_PAIRS = 1000


def calibrate(case: RepairCase) -> dict[str, float]:
    options = case.options
    learns_from = case.teacher if options.labels == "none" else None
    seen = observe(
        case.model,
        case.fit,
        learns_from,
        count=len(case.fit),
        threshold=options.threshold,
        phrases=math.ceil(ENOUGH_PAIRS / 2 / len(case.fit)),
        compare=False,
    )
    logits = [answer.presence_logit for answer in seen.student]
    if learns_from is None:
        calibration = fit_to_labels(logits, [it.present for it in seen.student], options.offset_only)
        labels = len(logits)
    else:
        theirs = torch.tensor([answer.presence_logit for answer in seen.teacher])
        # As the teacher itself reads its logits; one that ignores presence is matched in its raw presence.
        presence = PresenceReading.of(learns_from.config).probability(theirs).tolist()
        calibration = fit_to_teacher(logits, presence, options.offset_only, options.matching)
        labels = 0
    config = dataclasses.replace(
        case.model.config, presence_calibration=calibration, presence_mode="calibrated"
    )
    how = "from labels" if learns_from is None else f"without labels, {options.matching}"
    write_with(case, config, f"calibrate, {how}{', offset only' * options.offset_only}")
    return {"images": len(case.fit), "pairs": len(logits), "labels": labels}


def check(options: RepairOptions) -> None:
    """Raises:
    OptionError: without labels a teacher is needed.
    """
    if options.labels == "none" and options.teacher is None:
        raise OptionError("calibrating without labels needs a teacher (--teacher)")


CALIBRATE = Method(calibrate, check)

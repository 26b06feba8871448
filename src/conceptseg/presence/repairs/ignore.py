"""Leave presence out of the scores: what a collapsed presence hid comes back, false answers too."""

from __future__ import annotations

import dataclasses

from conceptseg.presence.repairs.case import Method, RepairCase, RepairOptions, write_with


def ignore_presence(case: RepairCase) -> dict[str, float]:
    write_with(case, dataclasses.replace(case.model.config, presence_mode="ignore"), "ignore")
    return {"images": 0, "pairs": 0, "labels": 0}


def check(options: RepairOptions) -> None:
    """Any options do."""


IGNORE = Method(ignore_presence, check)

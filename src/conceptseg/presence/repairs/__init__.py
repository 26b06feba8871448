"""The repairs, one file each. For another: a file here, a line below, its name in `choices.RepairMethod`."""

from __future__ import annotations

from conceptseg.presence.repairs.calibrate import CALIBRATE
from conceptseg.presence.repairs.case import Method
from conceptseg.presence.repairs.distil import DISTIL
from conceptseg.presence.repairs.finetune import FINETUNE
from conceptseg.presence.repairs.ignore import IGNORE

METHODS: dict[str, Method] = {
    "ignore": IGNORE,
    "calibrate": CALIBRATE,
    "finetune": FINETUNE,
    "distil": DISTIL,
    "distill": DISTIL,  # as the command is spelt
}

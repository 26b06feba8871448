"""Presence: diagnose why a model says "no" to what is there, and repair it.

Names are found when they are asked for, so that importing this package stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conceptseg.presence.diagnosis import Diagnosis, diagnose
    from conceptseg.presence.repairing import Repair, repair
    from conceptseg.presence.repairs.case import RepairOptions
    from conceptseg.presence.report import write_diagnosis
    from conceptseg.presence.verdict import VerdictRule

__all__ = ["Diagnosis", "Repair", "RepairOptions", "VerdictRule", "diagnose", "repair", "write_diagnosis"]

_HOMES = {
    "Diagnosis": "diagnosis",
    "Repair": "repairing",
    "RepairOptions": "repairs.case",
    "VerdictRule": "verdict",
    "diagnose": "diagnosis",
    "repair": "repairing",
    "write_diagnosis": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'conceptseg.presence' has no attribute {name!r}")
    value = getattr(import_module(f"conceptseg.presence.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

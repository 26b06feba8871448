"""Exemplars: measure how far example boxes and the image are apart, bring them together, compare encoders.

Names are found when they are asked for, so that importing this package stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conceptseg.exemplars.explanation import Explanation, explain
    from conceptseg.exemplars.gap import Gap, measure_gap
    from conceptseg.exemplars.gap_report import write_gap

__all__ = ["Explanation", "Gap", "explain", "measure_gap", "write_gap"]

_HOMES = {
    "Explanation": "explanation",
    "Gap": "gap",
    "explain": "explanation",
    "measure_gap": "gap",
    "write_gap": "gap_report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'conceptseg.exemplars' has no attribute {name!r}")
    value = getattr(import_module(f"conceptseg.exemplars.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

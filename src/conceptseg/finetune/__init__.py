"""Fine-tuning on data of one's own.

from conceptseg.finetune import finetune

tuned = finetune("my-data", model="nano", out="runs/mine")
segmenter = cs.load(tuned.model)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conceptseg.finetune.comparison import Comparison
    from conceptseg.finetune.run import Tuned, finetune

__all__ = ["Comparison", "Tuned", "finetune"]

_HOMES = {"Comparison": "comparison", "Tuned": "run", "finetune": "run"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'conceptseg.finetune' has no attribute {name!r}")
    return getattr(import_module(f"conceptseg.finetune.{_HOMES[name]}"), name)

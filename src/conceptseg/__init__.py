"""conceptseg: segment every object that a phrase or an example box means.

    import conceptseg as cs

    segmenter = cs.load("nano")
    result = segmenter.segment("street.jpg", text="yellow school bus")

Importing this package is instant and changes nothing: torch is imported by the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from conceptseg.errors import (
        CheckpointError,
        ConceptSegError,
        ConfigError,
        DataError,
        ExportError,
        ImageError,
        InstanceIndexError,
        MissingDependencyError,
        ModelNotFoundError,
        OptionError,
        PromptError,
        ShapeError,
        TrainingError,
    )
    from conceptseg.exemplar import Exemplar
    from conceptseg.hub import available_models
    from conceptseg.loading import load
    from conceptseg.official_api import Sam3Processor
    from conceptseg.result import Result
    from conceptseg.segmenter import EncodedImage, Segmenter

__all__ = [
    "CheckpointError",
    "ConceptSegError",
    "ConfigError",
    "DataError",
    "EncodedImage",
    "Exemplar",
    "ExportError",
    "ImageError",
    "InstanceIndexError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "OptionError",
    "PromptError",
    "Result",
    "Sam3Processor",
    "Segmenter",
    "ShapeError",
    "TrainingError",
    "available_models",
    "load",
]

_HOMES = {
    "EncodedImage": "segmenter",
    "Exemplar": "exemplar",
    "Result": "result",
    "Sam3Processor": "official_api",
    "Segmenter": "segmenter",
    "available_models": "hub",
    "load": "loading",
}  # everything else public is an error

_PACKAGES = ("exemplars", "labelling", "presence")  # cs.presence.diagnose(...)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"conceptseg.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'conceptseg' has no attribute {name!r}")
    value = getattr(import_module(f"conceptseg.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

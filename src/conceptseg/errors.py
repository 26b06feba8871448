"""Every error that a user can cause.

    ConceptSegError
    ├── ImageError              an image cannot be read or used         (ValueError)
    ├── PromptError             a phrase, box, point or label is wrong  (ValueError)
    ├── OptionError             an option has an impossible value       (ValueError)
    ├── InstanceIndexError      a result has no such object             (IndexError)
    ├── ModelNotFoundError      no model has this name or path          (LookupError)
    ├── CheckpointError         weights do not fit or are damaged       (ValueError)
    ├── ConfigError             a config or recipe is wrong             (ValueError)
    ├── DataError               a dataset cannot be read or used        (ValueError)
    ├── ShapeError              tensors disagree in shape               (ValueError)
    ├── TrainingError           training cannot go on                   (RuntimeError)
    ├── ExportError             an exported model differs from its own  (RuntimeError)
    └── MissingDependencyError  an optional package is not installed    (ImportError)

Each is also a subclass of the fitting built-in, so `except ValueError` works as expected.
"""

from __future__ import annotations


class ConceptSegError(Exception):
    """A mistake that the user can mend; the message says what, where and what would be right, in one line."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class ImageError(ConceptSegError, ValueError):
    """An image cannot be read or used."""


class PromptError(ConceptSegError, ValueError):
    """A phrase, box, point or label is wrong."""


class OptionError(ConceptSegError, ValueError):
    """An option has an impossible value."""


class InstanceIndexError(ConceptSegError, IndexError):
    """A result has no such object."""


class ModelNotFoundError(ConceptSegError, LookupError):
    """No model has this name or path."""


class CheckpointError(ConceptSegError, ValueError):
    """Weights do not fit the architecture, or the file is damaged."""


class ConfigError(ConceptSegError, ValueError):
    """A config or recipe is wrong."""


class DataError(ConceptSegError, ValueError):
    """A dataset cannot be read or used."""


class ShapeError(ConceptSegError, ValueError):
    """Tensors disagree in shape."""


class TrainingError(ConceptSegError, RuntimeError):
    """Training cannot go on."""


class ExportError(ConceptSegError, RuntimeError):
    """A model cannot be exported, or what was exported does not compute what the model does."""


class MissingDependencyError(ConceptSegError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def shown(value: object, longest: int = 100) -> str:
    """A value as messages show it: in one line, and not all of it when it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no numbers of more than 4,300 digits
        text = f"a {type(value).__name__} of many digits"
    return text if len(text) <= longest else f"{text[:longest]}..."

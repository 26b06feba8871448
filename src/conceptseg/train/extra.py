"""The packages that training needs beyond the core: the extra `conceptseg[train]`."""

from __future__ import annotations

from importlib.util import find_spec

from conceptseg.errors import MissingDependencyError

PACKAGES = ("accelerate", "matplotlib", "tensorboard")


def require_training_packages() -> None:
    """Look for every package of the extra before a run begins, not when the first figure is drawn.

    Raises:
        MissingDependencyError: names what is missing and how to get it.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"training needs {' and '.join(missing)}, not installed here: pip install 'conceptseg[train]'"
        )

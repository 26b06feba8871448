"""What commands need that answer over HTTP."""

from __future__ import annotations

from conceptseg.errors import MissingDependencyError


def check_packages(command: str) -> None:
    """Raises:
    MissingDependencyError: one is not installed.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{command} needs more packages: pip install 'conceptseg[serve]'"
        ) from error

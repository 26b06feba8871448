"""The packages that only a part of the library needs, by the extra that installs them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from conceptseg.errors import MissingDependencyError

Extra = Literal["onnx", "openvino", "ray", "serve", "train"]

EXTRAS: dict[Extra, tuple[str, ...]] = {  # as they are imported; pydantic comes with FastAPI
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "ray": ("ray",),
    "serve": ("fastapi", "prometheus_client", "python_multipart", "uvicorn"),
    "train": ("accelerate", "matplotlib", "tensorboard"),
}


def require(extra: Extra, what: str, packages: tuple[str, ...] | None = None) -> None:
    """Look for optional packages before work begins, without importing them.

    Args:
        extra: that brings them.
        what: needs them; the message begins with it.
        packages: those that are needed; None: all of the extra.

    Raises:
        MissingDependencyError: names what is missing and how to get it.
    """
    missing = [name for name in packages or EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{what} needs {', '.join(missing)}, not installed here: "
            f'pip install "conceptseg[{extra}]"'  # quotes that every shell reads
        )

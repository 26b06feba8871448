"""What was measured of every example, as a small JSON file from which all figures can be computed again."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import DataError
from conceptseg.report import without_nan

DIGITS = 5  # significant ones; far more than an interval needs


@dataclass(frozen=True)
class Table:
    """Rows of examples.

    Attributes:
        setup: which claim, model, weights, data and settings.
        rows: one dict per example, all with the same keys; None where nothing can be said.
    """

    setup: dict[str, Any]
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]

    def where(self, **wanted: Any) -> Table:
        """The rows with these values."""
        kept = [row for row in self.rows if all(row[name] == value for name, value in wanted.items())]
        return Table(self.setup, kept)

    def save(self, path: Path) -> None:
        """Write it, one line per example, and per element of what the setup lists."""
        names = list(self.rows[0]) if self.rows else []
        rows = [[_rounded(row[name]) for name in names] for row in self.rows]
        setup = [f"{json.dumps(key)}: {_listed(value, 6)}" for key, value in without_nan(self.setup).items()]
        parts = {
            "setup": "{\n    " + ",\n    ".join(setup) + "\n  }" if setup else "{}",
            "columns": json.dumps(names),
            "rows": _listed(rows, 4),
        }
        write_text(
            path, "{\n  " + ",\n  ".join(f'"{name}": {text}' for name, text in parts.items()) + "\n}\n"
        )

    @classmethod
    def load(cls, path: Path) -> Table:
        """Raises:
        DataError: the file is no such table.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            rows = [dict(zip(values["columns"], row, strict=True)) for row in values["rows"]]
            return cls(values["setup"], rows)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no table of a study: {error}") from error


def _listed(value: Any, indent: int) -> str:
    """JSON, with a line for each element of a list of lists or of objects."""
    if not (isinstance(value, list) and value and isinstance(value[0], (list, dict))):
        return json.dumps(value, allow_nan=False)
    space = "\n" + " " * indent
    lines = [json.dumps(one, allow_nan=False) for one in value]
    return "[" + space + ("," + space).join(lines) + space[:-2] + "]"


def pack(vector: NDArray[Any]) -> str:
    """(D,) as text, in half precision: a channel's value needs no more."""
    return base64.b64encode(np.asarray(vector, "<f2").tobytes()).decode("ascii")


def unpack(texts: Sequence[str]) -> NDArray[np.float64]:
    """n packed vectors -> (n, D)."""
    return np.stack([np.frombuffer(base64.b64decode(text), "<f2") for text in texts]).astype(np.float64)


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    value = value.item() if isinstance(value, np.generic) else value
    value = without_nan(value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value

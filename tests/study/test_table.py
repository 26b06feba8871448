"""Tables of examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conceptseg.errors import DataError
from conceptseg.study.table import Table, pack, unpack


def test_a_table_comes_back_from_its_file_but_for_digits_that_say_nothing(tmp_path: Path) -> None:
    rows = [
        {"scene": 0, "value": 0.123456789, "found": [1, 2.00000001], "known": True},
        {"scene": 1, "value": float("nan"), "found": [], "known": False},
    ]
    Table({"claim": "F2"}, rows).save(tmp_path / "t.json")
    again = Table.load(tmp_path / "t.json")
    assert again.setup == {"claim": "F2"} and again.column("value") == [0.12346, None]
    assert again.rows[0] == {"scene": 0, "value": 0.12346, "found": [1, 2.0], "known": True}
    assert again.where(known=False).column("scene") == [1]
    assert json.loads((tmp_path / "t.json").read_text())["columns"] == ["scene", "value", "found", "known"]


def test_vectors_are_packed_to_half_precision() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 8))
    np.testing.assert_allclose(unpack([pack(it) for it in vectors]), vectors, rtol=1e-3, atol=1e-4)


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(DataError, match=r"t\.json is no table of a study"):
        Table.load(tmp_path / "t.json")

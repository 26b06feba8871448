"""No two modules need each other, not even inside a function."""

from __future__ import annotations

import networkx

from scripts.import_graph import graph


def test_imports_have_no_circles() -> None:
    found, _ = graph(None)
    assert [circle for circle in networkx.strongly_connected_components(found) if len(circle) > 1] == []

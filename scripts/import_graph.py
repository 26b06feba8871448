"""What imports what in the package, now or at an earlier commit: layers, upward imports, circles.

    python scripts/import_graph.py              # the working tree
    python scripts/import_graph.py HEAD~200     # as it was
    python scripts/import_graph.py --dot > imports.dot && dot -Tsvg imports.dot > imports.svg

Layers are those of tests/test_layers.py, whatever the commit. Imports for type checking alone do not count.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_layers import LEVEL, SLICES  # noqa: E402  # after the path

PREFIX = "src/conceptseg/"


def sources(revision: str | None) -> dict[str, str]:
    """Module -> its source; modules are named below the package, `models.detector`."""
    if revision is None:
        files = {
            path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
            for path in (ROOT / PREFIX).rglob("*.py")
        }
    else:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", revision, PREFIX], check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {
                member.name: tar.extractfile(member).read().decode()  # type: ignore[union-attr]
                for member in tar
                if member.name.endswith(".py")
            }
    return {
        name.removeprefix(PREFIX).removesuffix(".py").replace("/", "."): text for name, text in files.items()
    }


def imports(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports, wherever in it, but for type checking."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in skipped:
            continue
        base, _, rest = (node.module or "").partition(".")
        if base != "conceptseg":
            continue
        for alias in node.names:
            for name in (f"{rest}.{alias.name}".strip("."), rest, f"{rest}.__init__".strip(".")):
                if name in modules:
                    yield name
                    break


def graph(revision: str | None) -> tuple[networkx.DiGraph, int]:
    """The imports among modules, and how many lines the package has."""
    files = sources(revision)
    found = networkx.DiGraph()
    found.add_nodes_from(files)
    for module, text in files.items():
        found.add_edges_from(
            (module, other) for other in imports(ast.parse(text), set(files)) if other != module
        )
    return found, sum(text.count("\n") for text in files.values())


def part(module: str) -> str:
    return module.split(".")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", nargs="?", help="a commit; the working tree where not given")
    parser.add_argument("--dot", action="store_true", help="print the folders' graph for Graphviz")
    options = parser.parse_args()
    found, lines = graph(options.revision)
    between = Counter((part(a), part(b)) for a, b in found.edges if part(a) != part(b))
    if options.dot:
        print("digraph { rankdir=BT; node [shape=box];")
        for (a, b), count in sorted(between.items()):
            print(f'  "{a}" -> "{b}" [label={count}];')
        print("}")
        return
    upward = [(a, b) for a, b in found.edges if LEVEL.get(part(b), 0) > LEVEL.get(part(a), 99)]
    across = [
        (a, b) for a, b in found.edges if {part(a), part(b)} <= {*SLICES, "presence"} and part(a) != part(b)
    ]
    circles = [c for c in networkx.strongly_connected_components(found) if len(c) > 1]
    print(f"{len(found)} modules, {lines:,} lines, {found.number_of_edges()} imports")
    print(f"longest chain of modules: {networkx.dag_longest_path_length(networkx.condensation(found)) + 1}")
    for title, pairs in (("upward imports", upward), ("imports between slices", across)):
        print(f"{title}: {len(pairs)}")
        for a, b in sorted(pairs):
            print(f"  {a} -> {b}")
    print(f"circles: {len(circles)}")
    for circle in circles:
        print(f"  {', '.join(sorted(circle))}")


if __name__ == "__main__":
    main()

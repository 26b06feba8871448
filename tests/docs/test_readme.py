"""The Python in the README and in docs/ runs as it stands there.

Every block is run in a folder of its own that holds coins.png. One that needs a download or the reader's own
files has `<!-- not run: why -->` on the line before it; it is compiled, and what it imports of ours is
looked up.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<skip><!-- not run: (?P<why>[^>]+?) -->\n\n?)?^```python\n(?P<code>.*?)^```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced piece of Python."""

    file: Path
    line: int
    code: str
    why_not: str | None

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def blocks_of(file: Path) -> list[Block]:
    text = file.read_text(encoding="utf-8")
    return [
        Block(file, text.count("\n", 0, match.start("code")) + 1, match["code"], match["why"])
        for match in BLOCK.finditer(text)
    ]


def all_blocks() -> list[Block]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [block for page in pages if page.is_file() for block in blocks_of(page)]


def imports_of_ours(code: str) -> ast.Module:
    """The imports of conceptseg in a block, as a program of their own."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return ast.Module([node for node in nodes if "conceptseg" in ast.unparse(node)], type_ignores=[])


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_documented_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile("\n" * (block.line - 1) + block.code, str(block.file), "exec")  # lines as in the page
    if block.why_not:
        exec(compile(imports_of_ours(block.code), str(block.file), "exec"), {})
        pytest.skip(block.why_not)
    coins = ROOT / "src" / "conceptseg" / "assets" / "coins.png"
    (tmp_path / "coins.png").write_bytes(coins.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "__main__"})


def test_blocks_are_found_with_their_line_and_reason(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\na = 1\n```\n\n<!-- not run: needs a download -->\n```python\nb = 2\n```\n"
    )
    assert [(block.line, block.code, block.why_not) for block in blocks_of(page)] == [
        (4, "a = 1\n", None),
        (9, "b = 2\n", "needs a download"),
    ]

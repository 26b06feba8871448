"""What the site has beyond docs/: pages that are made at build time, and links that lead out of docs/.

mkdocs calls the functions whose names begin with `on_`. The command line's reference is made from the
commands themselves; the tables of benchmarks/results/, the changelog and CONTRIBUTING.md are shown as they
stand. Links between all of these are turned into links of the site; a link to any other file of the
repository, which has no address of its own, becomes text that names the file.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]

FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ ]*$)", re.M | re.S)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]#|])")


def shown_files() -> dict[str, str]:
    """Files outside of docs/ that are pages: path in the repository, path in the site."""
    results = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    pages = {f"benchmarks/results/{path.name}": f"results/{path.name}" for path in results}
    return pages | {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


SHOWN = shown_files()
COMES_FROM = {page: path for path, page in SHOWN.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The commands are those of this checkout; headings get the anchors that they have on GitHub."""
    sys.path.insert(0, str(ROOT / "src"))  # not at import: mkdocs puts the path back after that
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = {"reference/cli.md": command_line_page(), "results/index.md": list_of_results()}
    for path, page in SHOWN.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        made[page] = text if text.startswith("# ") else f"# {title_of(path, text)}\n\n{text}"
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = COMES_FROM.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = FENCE.split(markdown)
    parts[::2] = [
        LINK.sub(lambda link: site_link(link, source, page.file.src_uri), part) for part in parts[::2]
    ]
    return "".join(parts)


def site_link(link: re.Match[str], source: str, page: str) -> str:
    """One link of the file `source`, as it has to stand on `page` of the site."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
    place = target.removeprefix("docs/") if target.startswith("docs/") else SHOWN.get(target)
    if place is None:
        named = link["text"].strip("`").endswith(target) or target.endswith(link["text"].strip("`"))
        return f"`{target}`" if named else f"{link['text']} (`{target}`)"
    relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
    return f"{link['image']}[{link['text']}]({relative}{link['anchor'] or ''})"


def title_of(path: str, text: str) -> str:
    if text.startswith("# "):
        return text.splitlines()[0].removeprefix("# ")
    return Path(path).stem.replace("_", " ").capitalize()


def list_of_results() -> str:
    """The tables that the programs of benchmarks/ wrote, by their titles."""
    lines = ["# All tables", "", "What the programs in `benchmarks/` wrote, as they wrote it.", ""]
    for path, page in SHOWN.items():
        if page.startswith("results/"):
            title = title_of(path, (ROOT / path).read_text(encoding="utf-8"))
            lines.append(f"- [{title}]({posixpath.basename(page)}) (`{path}`)")
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Every command with its arguments, options and examples, out of the program itself."""
    from typer.main import get_command

    from conceptseg.cli.main import app

    lines = ["# Command line", "", "Made from the commands themselves: what `--help` says of each.", ""]
    for names, command, context in commands(get_command(app)):
        lines += command_section(names, command, context)
    return "\n".join(lines) + "\n"


def commands(command: Any, parent: Any = None, names: tuple[str, ...] = ("conceptseg",)) -> Iterator[Any]:
    """(names, command, its context) of a command and all below it, in the order of the program."""
    context = command.context_class(command, info_name=names[-1], parent=parent)
    yield names, command, context
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, context, (*names, name))


def command_section(names: tuple[str, ...], command: Any, context: Any) -> list[str]:
    lines = [f"{'##' if len(names) < 3 else '###'} {' '.join(names)}", ""]
    lines += [plain(command.help or ""), "", "```console", f"$ {usage(command, context)}", "```", ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            lines += [f"`{record[0]}`", f":   {plain(record[1]) or '&nbsp;'}", ""]
    examples = [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]
    if examples:
        lines += ["```console", *(f"$ {example}" for example in examples), "```", ""]
    return lines


def usage(command: Any, context: Any) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def plain(text: str) -> str:
    """Help as Markdown: line ends go, no sign in it means anything."""
    escaped = MARKDOWN_SIGNS.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in escaped.split("\n\n"))

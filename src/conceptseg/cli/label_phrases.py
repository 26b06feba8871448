"""What `conceptseg label` asks: `--text PHRASE:THRESHOLD`, and a YAML file of phrases with examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptseg.cli.box_options import ExemplarOption
from conceptseg.cli.concepts import parse_concepts, pool_concepts
from conceptseg.errors import PromptError

if TYPE_CHECKING:
    from conceptseg.labelling import Concept
    from conceptseg.segmenter import Segmenter

KEYS = {"name", "text", "threshold", "exemplars", "negative_exemplars"}


@dataclass(frozen=True)
class Asked:
    """A concept before its examples are shown to a model."""

    name: str
    text: str | None
    threshold: float
    examples: tuple[ExemplarOption | Path, ...] = ()


def parse_phrase(option: str, threshold: float, examples: Sequence[ExemplarOption | Path] = ()) -> Asked:
    """`PHRASE` or `PHRASE:THRESHOLD`.

    Raises:
        PromptError: the number after the colon is no threshold.
    """
    phrase, colon, number = option.rpartition(":")
    try:
        value = float(number) if colon and phrase else None
    except ValueError:
        value = None
    if value is None:
        return Asked(option.strip(), option.strip(), threshold, tuple(examples))
    if not 0 <= value <= 1:
        raise PromptError(f"--text {option}: {number} is no threshold from 0 to 1")
    return Asked(phrase.strip(), phrase.strip(), value, tuple(examples))


def read_phrases(path: Path, threshold: float) -> list[Asked]:
    """A YAML list of phrases, or of entries with `text`, `threshold`, `name`, `exemplars`,
    `negative_exemplars`; examples are given as to `--exemplar`, paths as seen from the file.

    Raises:
        PromptError: it cannot be read, or says something else.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise PromptError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, list) or not content:
        raise PromptError(f"{path} must be a list of phrases, such as '- cat'")
    return [_entry(entry, f"{path}: entry {n}", path.parent, threshold) for n, entry in enumerate(content, 1)]


def to_concepts(segmenter: Segmenter, asked: Sequence[Asked]) -> list[Concept]:
    """Show the examples to the model; phrases with the same examples share them.

    Raises:
        ImageError, PromptError: an example cannot be used.
    """
    from conceptseg.labelling import Concept

    shown = {examples: pool_concepts(segmenter, examples) for examples in {one.examples for one in asked}}
    return [Concept(one.name, one.text, one.threshold, shown[one.examples]) for one in asked]


def _entry(entry: Any, where: str, folder: Path, threshold: float) -> Asked:
    if isinstance(entry, str):
        return Asked(entry.strip(), entry.strip(), threshold)
    if not isinstance(entry, dict):
        raise PromptError(f"{where} is {entry!r}; give a phrase, or an entry with text, threshold, exemplars")
    unknown = sorted(str(key) for key in entry if key not in KEYS)
    if unknown:
        raise PromptError(f"{where} has unknown {', '.join(unknown)}; choose {', '.join(sorted(KEYS))}")
    text, name = entry.get("text"), entry.get("name", entry.get("text"))
    if not isinstance(name, str) or not (text is None or isinstance(text, str)):
        raise PromptError(f"{where} needs a text, or a name and exemplars")
    value = entry.get("threshold", threshold)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise PromptError(f"{where} has threshold {value!r}; give a number from 0 to 1")
    positive, negative = (_paths(entry, key, where, folder) for key in ("exemplars", "negative_exemplars"))
    return Asked(name, text, float(value), tuple(parse_concepts(positive, negative)))


def _paths(entry: dict[str, Any], key: str, where: str, folder: Path) -> list[str]:
    values = entry.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise PromptError(f"{where} has {key} that are no list of IMAGE:X0,Y0,X1,Y1")
    return [str(folder / value) for value in values]

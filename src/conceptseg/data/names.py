"""What names of things have to do with each other: synonyms, plurals, broader words, and what is mixed up.

Training asks for a thing by any of its names, and asks for what is absent only where that is sure. The table
is `names.yaml`, beside this file; a recipe may name another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from conceptseg.errors import ConfigError

PACKAGED = Path(__file__).with_name("names.yaml")
PARTS = ("synonyms", "broader", "unclear", "everywhere", "plurals")


@dataclass(frozen=True)
class Names:
    """The table; an empty one knows no relation but that of a name to itself and its plural.

    Attributes:
        synonyms: name -> all names of the same thing, itself among them.
        broader: name -> wider words that are surely true of it; without the wider words of its synonyms.
        unclear: name -> names that some would use for the same thing.
        everywhere: what stands about unlabelled in many pictures.
        plurals: irregular ones.
    """

    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    broader: dict[str, frozenset[str]] = field(default_factory=dict)
    unclear: dict[str, frozenset[str]] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    plurals: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path = PACKAGED) -> Names:
        """Read a table.

        Raises:
            ConfigError: no such file, or it is not a table of names.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as a table of names: {error}") from error
        return cls._from_values(content, path)

    @classmethod
    def _from_values(cls, content: Any, path: str | Path) -> Names:
        if not isinstance(content, dict) or set(content) - set(PARTS):
            raise ConfigError(f"{path} must be a mapping with some of {', '.join(PARTS)}")
        synonyms: dict[str, tuple[str, ...]] = {}
        for group in _lists(content.get("synonyms", []), path):
            synonyms.update(dict.fromkeys(group, group))
        broader: dict[str, set[str]] = {}
        for word, members in dict(content.get("broader", {})).items():
            for member in _lists([members], path)[0]:
                broader.setdefault(member, set()).add(str(word))
        unclear: dict[str, set[str]] = {}
        for group in _lists(content.get("unclear", []), path):
            for name in group:
                unclear.setdefault(name, set()).update(set(group) - {name})
        return cls(
            synonyms=synonyms,
            broader={name: frozenset(words) for name, words in broader.items()},
            unclear={name: frozenset(words) for name, words in unclear.items()},
            everywhere=frozenset(_lists([content.get("everywhere", [])], path)[0]),
            plurals={str(name): str(word) for name, word in dict(content.get("plurals", {})).items()},
        )

    def same(self, name: str) -> tuple[str, ...]:
        """All names of the same thing, the given one among them."""
        return self.synonyms.get(name, (name,))

    def true_of(self, name: str) -> frozenset[str]:
        """Every name that is surely true of a thing of this name, the wider ones too."""
        found: set[str] = set()
        open_names = [name]
        while open_names:
            one = open_names.pop()
            for other in self.same(one):
                if other not in found:
                    found.add(other)
                    open_names += self.broader.get(other, ())
        return frozenset(found)

    def doubtful_of(self, name: str) -> frozenset[str]:
        """Names that are neither surely true nor surely false of a thing of this name."""
        true = self.true_of(name)
        mixed = {other for one in self.same(name) for other in self.unclear.get(one, ())}
        related = {word for other in mixed for word in self.true_of(other)}
        return frozenset(related - true)

    def true(self, asked: str, name: str) -> bool | None:
        """Whether a name is true of a thing of another name: yes, no, or None where nobody can tell.

        A narrower word than the given one may be true ("dalmatian" of a dog), so it is unclear.
        """
        if asked in self.true_of(name):
            return True
        if asked in self.doubtful_of(name) or name in self.true_of(asked) or name in self.doubtful_of(asked):
            return None
        return False

    def surely_absent(self, candidates: Iterable[str], present: Sequence[str]) -> list[str]:
        """Of these names, those that are false of everything that is there."""
        return [name for name in candidates if all(self.true(name, it) is False for it in present)]

    def kin(self, candidates: Iterable[str], present: Iterable[str]) -> list[str]:
        """Of these names, those that share a wider name with something that is there."""
        families = {word for name in present for word in self.broader.get(name, ())}
        return [name for name in candidates if families & self.broader.get(name, frozenset())]

    def plural(self, name: str) -> str:
        """The plural of a name."""
        if name in self.plurals:
            return self.plurals[name]
        *before, last = name.split()
        return " ".join([*before, self.plurals.get(last, last + "s")])

    def spoken(self, name: str, count: int, rng: np.random.Generator) -> str:
        """A name as somebody might say it: a synonym now and then, "a" before it, or its plural.

        Args:
            name: of the things.
            count: how many are there; one thing has no plural.
            rng: decides.
        """
        choice, form, which = rng.random(3)
        others = self.same(name)
        if len(others) > 1 and choice < 0.4:
            name = others[int(which * len(others))]
        if form < 0.2 and count != 1:
            return self.plural(name)
        if form > 0.94 and self.plural(name) != name:
            return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
        return name

    def every_word(self) -> list[str]:
        """Every name of the table and its plural, for a tokenizer."""
        names = {*self.synonyms, *self.broader, *self.unclear, *self.everywhere}
        names |= {word for words in self.broader.values() for word in words}
        return sorted(names | {self.plural(name) for name in names})


def _lists(value: Any, path: str | Path) -> list[tuple[str, ...]]:
    groups = value if isinstance(value, list) else None
    if groups is None or not all(
        isinstance(group, list) and all(isinstance(name, str) for name in group) for group in groups
    ):
        raise ConfigError(f"{path} holds {value!r:.60} where lists of names are wanted")
    return [tuple(group) for group in groups]

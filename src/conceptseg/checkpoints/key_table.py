"""What the weights of another program are called here: foreign state dict -> ours, by a readable table.

A table is a list of rules. In a rule's names, `{i}` stands for a number (a layer) and `{p}` for `weight` or
`bias`; both sides share them. Most rules rename; some make one of our tensors from several foreign ones, or
change a layout:

    rename("text_projection.{p}", "text_encoder.projection.{p}")
    stack("layers.{i}.{part}.{p}", ("q_proj", "k_proj", "v_proj"), "blocks.{i}.qkv.{p}")

Reading is strict: a key that no rule knows, a rule that finds only some of its tensors, and a tensor of ours
that is given twice are errors, and so is (in `folder.assign_weights`) a parameter that nothing was found for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from conceptseg.errors import CheckpointError

PLACEHOLDERS = {"{i}": r"(?P<i>\d+)", "{p}": r"(?P<p>weight|bias)"}

Transform = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Rule:
    """One of our tensors and the foreign tensors that it is made of."""

    theirs: tuple[str, ...]
    ours: str
    transform: Transform


@dataclass(frozen=True)
class KeyTable:
    """A foreign layout of the whole network."""

    layout: str  # as messages call it
    rules: tuple[Rule, ...]
    unused: tuple[str, ...] = ()  # foreign keys that the network has no use for, with the placeholders above
    prefixes: tuple[str, ...] = ()  # what may stand before every key of the network
    foreign_parts: tuple[str, ...] = ()  # prefixes of other networks in the same file, left alone

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], Rule, int]]:
        return [(_pattern(name), rule, part) for rule in self.rules for part, name in enumerate(rule.theirs)]

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Foreign names and layouts -> ours.

        Raises:
            CheckpointError: a key is unknown or gives a tensor that another key gave already, parts of one
                are missing, or a tensor cannot take our layout; the message names the first few.
        """
        unused = [_pattern(name) for name in self.unused]
        found: dict[str, dict[int, str]] = {}  # our name -> part -> their key
        rule_of: dict[str, Rule] = {}
        unknown: list[str] = []
        for key, name in self._own_keys(state):
            if any(pattern.fullmatch(name) for pattern in unused):
                continue
            match = self._match(name)
            if match is None:
                unknown.append(key)
                continue
            ours, rule, part = match
            parts = found.setdefault(ours, {})
            if part in parts or rule_of.setdefault(ours, rule) is not rule:
                raise CheckpointError(
                    f"{key} and {next(iter(parts.values()))} are both {ours} of the {self.layout} layout"
                )
            parts[part] = key
        if unknown:
            raise CheckpointError(f"the {self.layout} layout has no {first_few(unknown)}")
        incomplete = [n for n, parts in found.items() if len(parts) < len(rule_of[n].theirs)]
        if incomplete:
            name = incomplete[0]
            raise CheckpointError(
                f"{name} needs {len(rule_of[name].theirs)} tensors of the {self.layout} layout, "
                f"got only {', '.join(sorted(found[name].values()))}"
            )
        return {
            n: self._make(n, rule_of[n], [state[parts[i]] for i in sorted(parts)])
            for n, parts in found.items()
        }

    def _own_keys(self, state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
        """Keys of this network, as they are and without the prefix that all of them carry."""
        keys = [key for key in state if not key.startswith(self.foreign_parts)]
        for prefix in self.prefixes:
            if keys and all(key.startswith(prefix) for key in keys):
                return [(key, key[len(prefix) :]) for key in keys]
        return [(key, key) for key in keys]

    def _match(self, name: str) -> tuple[str, Rule, int] | None:
        for pattern, rule, part in self._patterns:
            match = pattern.fullmatch(name)
            if match is not None:
                return _fill(rule.ours, match.groupdict()), rule, part
        return None

    def _make(self, ours: str, rule: Rule, tensors: list[Tensor]) -> Tensor:
        try:
            return rule.transform(tensors)
        except (RuntimeError, ValueError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise CheckpointError(
                f"cannot make {ours} of {shapes} of the {self.layout} layout: {error}"
            ) from error


def rename(theirs: str, ours: str) -> Rule:
    """The same tensor under another name."""
    return Rule((theirs,), ours, _only)


def stack(theirs: str, parts: Iterable[str], ours: str) -> Rule:
    """Several tensors, one below the other: separate query, key and value projections become one matrix.

    Args:
        theirs: foreign name in which `{part}` stands for each of `parts`.
        parts: in the order in which they are stacked.
        ours: our name.
    """
    return Rule(tuple(theirs.replace("{part}", part) for part in parts), ours, torch.cat)


def position_grid(theirs: str, ours: str) -> Rule:
    """A learned position table (1, tokens, D) laid out as the square (1, side, side, D) that it is.

    One token more than a square is the slot of a class token, which comes first and is not used.
    """
    return Rule((theirs,), ours, _to_grid)


def first_few(names: list[str], count: int = 3) -> str:
    """ "a, b, c and 4 more"."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}"


def _only(tensors: list[Tensor]) -> Tensor:
    return tensors[0]


def _to_grid(tensors: list[Tensor]) -> Tensor:
    table = tensors[0]
    side = int(table.shape[1] ** 0.5)
    if table.shape[1] == side * side + 1:
        table = table[:, 1:]
    return torch.unflatten(table, 1, (side, side))


def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name)
    for placeholder, expression in PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(placeholder), expression)
    return re.compile(pattern)


def _fill(name: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        name = name.replace(f"{{{placeholder}}}", value)
    return name

"""What the weights of another program are called here: foreign names -> ours and back, by a readable table.

A table is a list of rules. In a rule's names, `{i}` and `{j}` stand for numbers (a stage, a layer), `{p}`
for `weight` or `bias`, and `{n}` for what a batch norm stores; both sides share them. Most rules rename; some
make one of our tensors from several foreign ones, or change a layout, and each knows its way back:

    rename("text_projection.{p}", "text_encoder.projection.{p}")
    stack("layers.{i}.{part}.{p}", ("q_proj", "k_proj", "v_proj"), "blocks.{i}.qkv.{p}")

Reading is strict: a key that no rule knows, a rule that finds only some of its tensors, and a tensor of ours
that is given twice are errors, and so is (in `folder.assign_weights`) a parameter that nothing was found for.
What the network does not read but the foreign layout has goes under names that begin with `unused.`, so that
the way back gives a whole file again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from conceptseg.errors import CheckpointError

PLACEHOLDERS = {
    "{i}": r"(?P<i>\d+)",
    "{j}": r"(?P<j>\d+)",
    "{p}": r"(?P<p>weight|bias)",
    "{n}": r"(?P<n>weight|bias|running_mean|running_var|num_batches_tracked)",
}
UNUSED = "unused."  # begins our name of a tensor that only the way back needs

Transform = Callable[[list[Tensor]], Tensor]
Inverse = Callable[[list["Tensor | None"]], list[Tensor]]
Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Rule:
    """One of our tensors and the foreign tensors that it is made of."""

    theirs: tuple[str, ...]
    ours: str
    transform: Transform
    inverse: Inverse | None  # ours, then the tensors of `beside`, -> theirs; None: another rule goes back
    beside: tuple[str, ...] = ()  # more of our names that the way back reads, where they are there


@dataclass(frozen=True)
class Known:
    """Foreign keys that the network does not read, and why."""

    name: str  # with the placeholders above; a star at the end stands for anything
    reason: str  # "rotary tables, which are computed": goes into the key report
    carried: bool = False  # go back into a file of the same layout


@dataclass(frozen=True)
class Piece:
    """One of our tensors, before it is made."""

    ours: str
    rule: Rule
    keys: tuple[str, ...]  # foreign, in the order of the rule

    def make(self, state: Mapping[str, Tensor], layout: str) -> Tensor:
        """Raises:
        CheckpointError: the foreign tensors cannot take our layout.
        """
        tensors = [state[key] for key in self.keys]
        try:
            return self.rule.transform(tensors)
        except (RuntimeError, ValueError, IndexError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise CheckpointError(
                f"cannot make {self.ours} of {shapes} of the {layout} layout: {error}"
            ) from error


@dataclass(frozen=True)
class Plan:
    """What a table makes of the keys of one file."""

    pieces: list[Piece]
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> foreign keys
    carried: dict[str, str] = field(default_factory=dict)  # foreign key -> our name of it
    prefix: str = ""  # that all keys of the network carry


@dataclass(frozen=True)
class KeyTable:
    """A foreign layout of the whole network."""

    layout: str  # as messages call it
    rules: tuple[Rule, ...]
    known: tuple[Known, ...] = ()
    prefixes: tuple[str, ...] = ()  # what may stand before every key of the network; the first that fits
    wrappers: tuple[str, ...] = ()  # left out of keys wherever they stand
    foreign_parts: Mapping[str, str] = field(default_factory=dict)  # prefix of another network -> what it is

    def plan(self, keys: Iterable[str]) -> Plan:
        """Say what would be made of these keys; reads no tensor.

        Raises:
            CheckpointError: a key is unknown or gives a tensor that another key gave already, or parts of one
                are missing; the message names the first few.
        """
        found: dict[str, dict[int, str]] = {}  # our name -> part -> their key
        rule_of: dict[str, Rule] = {}
        skipped: dict[str, list[str]] = {}
        carried: dict[str, str] = {}
        unknown: list[str] = []
        own, prefix = self._own_keys(keys, skipped)
        for key, name in own:
            matches = self._matches(name)
            for ours, rule, part in matches:
                parts = found.setdefault(ours, {})
                if part in parts or rule_of.setdefault(ours, rule) is not rule:
                    raise CheckpointError(
                        f"{key} and {next(iter(parts.values()))} are both {ours} of the {self.layout} layout"
                    )
                parts[part] = key
            if matches:
                continue
            known = next((k for k, _ in self._known.find(name)), None)
            if known is None:
                unknown.append(key)
            elif known.carried:
                carried[key] = f"{UNUSED}{name}"
            else:
                skipped.setdefault(known.reason, []).append(key)
        if unknown:
            raise CheckpointError(f"the {self.layout} layout has no {first_few(unknown)}")
        for ours, parts in found.items():
            if len(parts) < len(rule_of[ours].theirs):
                raise CheckpointError(
                    f"{ours} needs {len(rule_of[ours].theirs)} tensors of the {self.layout} layout, "
                    f"got only {', '.join(sorted(parts.values()))}"
                )
        pieces = [
            Piece(ours, rule_of[ours], tuple(parts[i] for i in sorted(parts)))
            for ours, parts in found.items()
        ]
        return Plan(pieces, skipped, carried, prefix)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Foreign names and layouts -> ours, without what only the way back needs.

        Raises:
            CheckpointError: as `plan`; or a tensor cannot take our layout.
        """
        pieces = self.plan(state).pieces
        return {p.ours: p.make(state, self.layout) for p in pieces if not p.ours.startswith(UNUSED)}

    def back(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Our names and layouts -> theirs, without a prefix.

        Returns:
            Their tensors, and the names of ours that this layout has no place for.
        """
        theirs: dict[str, Tensor] = {}
        homeless: list[str] = []
        for name, value in state.items():
            match = next(self._ours.find(name), None)
            if match is None:
                foreign = name.removeprefix(UNUSED)
                if name.startswith(UNUSED) and next(self._known.find(foreign), None) is not None:
                    theirs[foreign] = value
                elif _normal(name) not in self._beside:
                    homeless.append(name)
                continue
            rule, values = match
            assert rule.inverse is not None
            beside = [state.get(_fill(other, values)) for other in rule.beside]
            tensors = rule.inverse([value, *beside])
            theirs.update(zip((_fill(n, values) for n in rule.theirs), tensors, strict=True))
        return theirs, homeless

    def _own_keys(
        self, keys: Iterable[str], skipped: dict[str, list[str]]
    ) -> tuple[list[tuple[str, str]], str]:
        """Keys of this network, as they are and as the table calls them; and the prefix they all had."""
        own: list[str] = []
        for key in keys:
            part = next((p for p in self.foreign_parts if key.startswith(p)), None)
            if part is None:
                own.append(key)
            else:
                skipped.setdefault(self.foreign_parts[part], []).append(key)
        prefix = next((p for p in self.prefixes if own and all(key.startswith(p) for key in own)), "")
        return [(key, self._bare(key[len(prefix) :])) for key in own], prefix

    def _bare(self, name: str) -> str:
        for wrapper in self.wrappers:
            name = name.replace(wrapper, "")
        return name

    def _matches(self, name: str) -> list[tuple[str, Rule, int]]:
        """What a key gives: the first rule's tensor, and those of rules that read it for the way back."""
        matches: list[tuple[str, Rule, int]] = []
        for (rule, part), values in self._theirs.find(name):
            if rule.inverse is None or not any(other.inverse for _, other, _ in matches):
                matches.append((_fill(rule.ours, values), rule, part))
        return matches

    @cached_property
    def _theirs(self) -> _Index[tuple[Rule, int]]:
        return _Index((name, (rule, part)) for rule in self.rules for part, name in enumerate(rule.theirs))

    @cached_property
    def _ours(self) -> _Index[Rule]:
        return _Index((rule.ours, rule) for rule in self.rules if rule.inverse is not None)

    @cached_property
    def _known(self) -> _Index[Known]:
        return _Index((known.name, known) for known in self.known)

    @cached_property
    def _beside(self) -> set[str]:
        return {_normal(name) for rule in self.rules for name in rule.beside}


def rename(theirs: str, ours: str) -> Rule:
    """The same tensor under another name."""
    return Rule((theirs,), ours, _only, _same)


def stack(theirs: str, parts: Iterable[str], ours: str) -> Rule:
    """Several tensors, one below the other: separate query, key and value projections become one matrix.

    Args:
        theirs: foreign name in which `{part}` stands for each of `parts`.
        parts: in the order in which they are stacked; all of one size.
        ours: our name.
    """
    names = tuple(theirs.replace("{part}", part) for part in parts)
    return Rule(names, ours, _stacked, lambda tensors: list(_first(tensors).chunk(len(names))))


def transpose(theirs: str, ours: str) -> Rule:
    """A matrix that the foreign layout stores the other way round."""
    return Rule((theirs,), ours, lambda tensors: tensors[0].t(), lambda tensors: [_first(tensors).t()])


def position_grid(theirs: str, ours: str) -> Rule:
    """A learned position table (1, tokens, D) laid out as the square (1, side, side, D) that it is.

    One token more than a square is the slot of a class token, which comes first and is not used.
    """
    return Rule((theirs,), ours, _to_grid, lambda tensors: [_first(tensors).flatten(1, 2)])


def position_grid_with_class(theirs: str, ours: str, slot: str) -> tuple[Rule, Rule]:
    """The same, with a place for the slot of the class token, so that the way back has it again."""
    return (
        Rule((theirs,), ours, _to_grid, _from_grid_and_class, beside=(slot,)),
        Rule((theirs,), slot, _class_slot, None),
    )


def first_few(names: list[str], count: int = 3) -> str:
    """ "a, b, c and 4 more"."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}"


def _only(tensors: list[Tensor]) -> Tensor:
    return tensors[0]


def _first(tensors: list[Tensor | None]) -> Tensor:
    """Our own tensor, which is always there."""
    assert tensors[0] is not None
    return tensors[0]


def _same(tensors: list[Tensor | None]) -> list[Tensor]:
    return [_first(tensors)]


def _stacked(tensors: list[Tensor]) -> Tensor:
    if not tensors[0].is_meta:
        return torch.cat(tensors)
    # For tensors without memory torch would import its compiler, which takes longer than all of loading.
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        raise ValueError("they differ in width")
    rows = sum(tensor.shape[0] for tensor in tensors)
    return tensors[0].new_empty(rows, *tensors[0].shape[1:])


def _to_grid(tensors: list[Tensor]) -> Tensor:
    table = tensors[0]
    side = int(table.shape[1] ** 0.5)
    if table.shape[1] == side * side + 1:
        table = table[:, 1:]
    return torch.unflatten(table, 1, (side, side))


def _class_slot(tensors: list[Tensor]) -> Tensor:
    table = tensors[0]
    return table[:, : table.shape[1] - int(table.shape[1] ** 0.5) ** 2]


def _from_grid_and_class(tensors: list[Tensor | None]) -> list[Tensor]:
    grid, slot = _first(tensors).flatten(1, 2), tensors[1]
    return [torch.cat((grid.new_zeros(1, 1, grid.shape[2]) if slot is None else slot, grid), dim=1)]


class _Index(Generic[Payload]):
    """Names with placeholders, found without trying them all."""

    def __init__(self, entries: Iterable[tuple[str, Payload]]) -> None:
        self._exact: dict[str, list[tuple[re.Pattern[str], Payload]]] = {}
        self._starred: list[tuple[re.Pattern[str], Payload]] = []
        for name, payload in entries:
            if name.endswith("*"):
                self._starred.append((_pattern(name), payload))
            else:
                for spelling in _spellings(name):
                    self._exact.setdefault(spelling, []).append((_pattern(name), payload))

    def find(self, name: str) -> Iterator[tuple[Payload, dict[str, str]]]:
        for pattern, payload in (*self._exact.get(_normal(name), ()), *self._starred):
            match = pattern.fullmatch(name)
            if match is not None:
                yield payload, match.groupdict()


def _normal(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _spellings(name: str) -> list[str]:
    """A name with placeholders -> all that `_normal` makes of the names that it stands for."""
    name = _normal(name.replace("{i}", "0").replace("{j}", "0"))
    names = [name]
    for placeholder in ("{p}", "{n}"):
        if placeholder in name:
            words = re.sub(r"\(\?P<.>|\)", "", PLACEHOLDERS[placeholder]).split("|")
            names = [n.replace(placeholder, word) for n in names for word in words]
    return names


def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name)
    for placeholder, expression in PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(placeholder), expression)
    return re.compile(pattern.removesuffix(r"\*") + ".*" if name.endswith("*") else pattern)


def _fill(name: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        name = name.replace(f"{{{placeholder}}}", value)
    return name

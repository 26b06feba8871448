"""What was found in a checkpoint, what was left out and why: shown to people and kept in the provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class KeyGroup:
    """Tensors that share a fate."""

    what: str
    keys: int
    bytes: int


@dataclass(frozen=True)
class KeyReport:
    """One file, or one folder."""

    layout: str
    read: KeyGroup  # became the network
    carried: KeyGroup | None = None  # not used, kept for the way back
    skipped: tuple[KeyGroup, ...] = ()
    filled: tuple[KeyGroup, ...] = ()  # parts that the file lacks, and where they came from
    prefix: str = ""  # of the file's keys
    nested: str = ""  # where in the file the weights lay

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without what is empty."""
        plain = {key: value for key, value in asdict(self).items() if value}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def report_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(heading, text) for a table, of a report as JSON has it."""
    rows = [("layout", str(report["layout"])), ("  read", _plain(report["read"], named=False))]
    if "carried" in report:
        rows.append(("  kept for the way back", _plain(report["carried"], named=False)))
    rows += [("  skipped", _plain(group)) for group in report.get("skipped", ())]
    rows += [("  taken from elsewhere", _plain(group)) for group in report.get("filled", ())]
    return rows


def group(what: str, tensors: Iterable[Tensor]) -> KeyGroup:
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    return KeyGroup(what, len(sizes), sum(sizes))


def counted(keys: int) -> str:
    return f"{keys:,} key{'' if keys == 1 else 's'}"


def in_bytes(count: int) -> str:
    """ "1.67 GB": powers of ten, as files are sold and downloads are shown."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _plain(values: Mapping[str, Any], named: bool = True) -> str:
    text = f"{counted(values['keys'])}, {in_bytes(values['bytes'])}"
    return f"{values['what']}: {text}" if named else text

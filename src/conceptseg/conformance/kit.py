"""Reads a conformance kit, and compares what a port computes with it; needs only numpy and safetensors.

    import conformance_kit as ck                     # the copy of this file that lies in every kit

    kit = ck.Kit("KIT")
    kit.inputs["token_ids"]                          # what every port is asked
    kit.stages["trunk"].shape, kit.stages["trunk"].meaning
    kit.expected("trunk")                            # the tensor that a port must give
    print(ck.report(ck.check(kit, "OUTPUTS")))

    python conformance_kit.py OUTPUTS                # beside kit.json; exit code 1 where something departs

A port writes what it computes under the names of the stages into one `.safetensors` or `.npz` file, or as
`NAME.npy` into a folder. Stages that it cannot reach may be left out.

Two tensors agree when their largest difference is at most `tolerance` times the root mean square of the one
in the kit. Tokens are compared where they are no padding, in their order, wherever the padding stands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

FORMAT = "conceptseg conformance kit"
FORMAT_VERSION = 1
AGREES, DEPARTS, NOT_GIVEN = "agrees", "departs", "not given"

Tensors = Mapping[str, Any]  # name -> array


class KitError(ValueError):
    """A kit, or the outputs of a port, cannot be read."""


@dataclass(frozen=True)
class Stage:
    """One tensor on the way from pixels to masks."""

    name: str
    shape: tuple[int, ...]
    layout: str  # what the axes are, such as (HW, B, D)
    meaning: str
    reads: tuple[str, ...]  # earlier stages that it is computed from
    tolerance: float
    padding: str | None = None  # (B, S) bool, True = padding, of a tensor (S, B, ...)


@dataclass(frozen=True)
class Finding:
    """How one stage of a port compares."""

    stage: Stage
    status: str  # AGREES, DEPARTS or NOT_GIVEN
    distance: float = 0.0  # largest difference over the root mean square; of booleans the share that differs
    where: str = ""  # the worst place, or what is wrong beside the values


@dataclass(frozen=True)
class Conformance:
    """What `check` found: every stage of the kit, in the order of the network."""

    findings: list[Finding]
    unknown: list[str] = field(default_factory=list)  # names that the port gave and no stage has

    @property
    def first(self) -> Finding | None:
        """The first stage that departs; None where none does."""
        return next(iter(self.departures), None)

    @property
    def departures(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == DEPARTS]

    @property
    def sources(self) -> list[Finding]:
        """Stages that depart although nothing that they read does: each has a cause of its own."""
        by_name = {finding.stage.name: finding for finding in self.findings}

        def clean(name: str) -> bool:
            """Whether this stage agrees; one that was not given is as good as what it reads."""
            finding = by_name[name]
            if finding.status == NOT_GIVEN:
                return all(map(clean, finding.stage.reads))
            return finding.status == AGREES

        return [finding for finding in self.departures if all(map(clean, finding.stage.reads))]


class Kit:
    """An opened kit.

    Args:
        folder: of the kit, with `kit.json`.

    Raises:
        KitError: it is no kit, of another version, or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "kit.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise KitError(f"cannot read {path}: {error}") from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise KitError(f"{path} is not of a conformance kit")
        if about.get("version") != FORMAT_VERSION:
            raise KitError(f"{path} has version {about.get('version')}; this reads version {FORMAT_VERSION}")
        self.about: dict[str, Any] = about
        self.inputs = _safetensors(self.folder / "inputs.safetensors")
        self._expected = _safetensors(self.folder / "stages.safetensors")
        self.stages = {
            name: Stage(
                name,
                tuple(entry["shape"]),
                entry["layout"],
                entry["meaning"],
                tuple(entry["reads"]),
                entry["tolerance"],
                entry.get("padding"),
            )
            for name, entry in about["stages"].items()
        }

    def expected(self, name: str) -> Any:
        """The tensor of a stage, or one of the padding masks that stages name."""
        if name not in self._expected:
            raise KitError(f"{self.folder} has no stage {name!r}; it has {', '.join(self.stages)}")
        return self._expected[name]

    def weights(self) -> dict[str, Any]:
        """The random weights under the keys of the official code, without the rotary tables."""
        return _safetensors(self.folder / "weights.safetensors")


def read_outputs(path: str | Path) -> dict[str, Any]:
    """What a port wrote: a `.safetensors` or `.npz` file, or a folder of these and of `NAME.npy`.

    Raises:
        KitError: nothing is there, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".npz", ".npy"))
    else:
        files = [path]
    outputs: dict[str, Any] = {}
    for file in files:
        outputs.update(_read(file))
    if not outputs:
        raise KitError(f"{path} holds no .safetensors, .npz or .npy file")
    return outputs


def check(kit: Kit, outputs: str | Path | Tensors, tolerance: float | None = None) -> Conformance:
    """Compare what a port computes with the kit, stage by stage.

    Args:
        kit: that the port was asked.
        outputs: stage -> array, or where `read_outputs` finds them.
        tolerance: in place of the one of each stage; larger for ports that compute in half precision.

    Raises:
        KitError: the outputs cannot be read, or none has the name of a stage.
    """
    given = outputs if isinstance(outputs, Mapping) else read_outputs(outputs)
    masks = {stage.padding for stage in kit.stages.values() if stage.padding}
    unknown = sorted(set(given) - set(kit.stages) - masks)
    if not set(given) & set(kit.stages):
        raise KitError(
            f"no output has the name of a stage; got {', '.join(unknown) or 'none'}; "
            f"stages are {', '.join(kit.stages)}"
        )
    stages = list(kit.stages.values())
    if tolerance is not None:  # of booleans nothing is rounded
        stages = [
            s if kit.expected(s.name).dtype == bool else replace(s, tolerance=tolerance) for s in stages
        ]
    return Conformance([_compare(kit, stage, given) for stage in stages], unknown)


def report(found: Conformance) -> str:
    """The findings as lines of text, the first departure last."""
    width = max(len(finding.stage.name) for finding in found.findings)
    lines = []
    for finding in found.findings:
        distance = "" if finding.status == NOT_GIVEN else f"{finding.distance:.1e}"
        lines.append(
            f"{finding.stage.name:{width}}  {finding.status:9}  {distance:>7}  {finding.where}".rstrip()
        )
    return "\n".join([*lines, summary(found)])


def summary(found: Conformance) -> str:
    """The first stage that departs, and how far; one line for each further cause."""
    if found.first is None:
        given = sum(finding.status == AGREES for finding in found.findings)
        return f"no stage departs; {given} of {len(found.findings)} were compared"
    first = found.first
    lines = [f"first departure: {_sentence(first)}"]
    lines += [f"departs by itself, too: {_sentence(other)}" for other in found.sources if other != first]
    return "\n".join(lines)


def _sentence(finding: Finding) -> str:
    stage = finding.stage
    return (
        f"{stage.name} ({stage.meaning}) by {finding.distance:.1e}, allowed {stage.tolerance:.0e}; "
        f"{finding.where}; it reads {', '.join(stage.reads) or 'the inputs'}"
    )


def _compare(kit: Kit, stage: Stage, given: Tensors) -> Finding:
    if stage.name not in given:
        return Finding(stage, NOT_GIVEN)
    expected, value = kit.expected(stage.name), np.asarray(given[stage.name])
    if stage.padding is not None:
        ours = kit.expected(stage.padding)
        theirs = np.asarray(given.get(stage.padding, ours)).astype(bool)
        if value.ndim != expected.ndim or theirs.shape != (value.shape[1], value.shape[0]):
            return _shape(stage, f"shape {value.shape} with padding {theirs.shape}", expected)
        counts, wanted = (~theirs).sum(1).tolist(), (~ours).sum(1).tolist()
        if counts != wanted:
            where = f"{counts} tokens per pair that are no padding, not {wanted}"
            return Finding(stage, DEPARTS, np.inf, where)
        expected, value = _valid(expected, ours), _valid(value, theirs)
    if value.shape != expected.shape and (value.ndim == 0 or len(value) or len(expected)):
        return _shape(stage, f"shape {value.shape}", expected)
    if not expected.size:
        return Finding(stage, AGREES)
    apart = np.abs(value.astype(np.float64) - expected.astype(np.float64))
    if not np.isfinite(apart).all():
        return Finding(stage, DEPARTS, np.inf, f"{int((~np.isfinite(apart)).sum())} values are not finite")
    if expected.dtype == bool:
        distance = float((apart > 0).mean())
    else:
        size = float(np.sqrt(np.square(expected, dtype=np.float64).mean()))
        distance = float(apart.max()) / max(size, np.finfo(np.float32).tiny)
    worst = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape))
    where = f"worst at {list(worst)}: {value[worst]:.6g}, not {expected[worst]:.6g}"
    if distance > stage.tolerance:
        return Finding(stage, DEPARTS, distance, where)
    return Finding(stage, AGREES, distance)


def _shape(stage: Stage, found: str, expected: Any) -> Finding:
    return Finding(stage, DEPARTS, np.inf, f"{found}, not {expected.shape}, which is {stage.layout}")


def _valid(tokens: Any, padding: Any) -> Any:
    """(S, B, ...) -> the tokens that are no padding, pair by pair: (tokens, ...)."""
    return np.swapaxes(tokens, 0, 1)[~padding]


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".safetensors":
        yield from _safetensors(file).items()
        return
    try:
        if file.suffix == ".npy":
            yield file.stem, np.load(file)
        else:
            with np.load(file) as arrays:
                yield from arrays.items()
    except (OSError, ValueError, EOFError) as error:
        raise KitError(f"cannot read {file}: {error}") from error


def _safetensors(file: Path) -> dict[str, Any]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise KitError(f"cannot read {file}: {error}") from error


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python conformance_kit.py OUTPUTS", file=sys.stderr)
        return 2
    try:
        found = check(Kit(Path(__file__).parent), arguments[0])
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(found))
    return 1 if found.departures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

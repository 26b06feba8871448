"""An opened checkpoint of any layout: what network it holds, and its tensors, ours by name, not yet read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from conceptseg.checkpoints.find_tokenizer import check_vocabulary, find_tokenizer
from conceptseg.checkpoints.key_table import UNUSED, KeyTable, Piece, Plan, first_few
from conceptseg.checkpoints.report import KeyReport
from conceptseg.checkpoints.weights import Weights
from conceptseg.errors import CheckpointError
from conceptseg.models.build import build_detector
from conceptseg.models.config import DetectorConfig, ModelConfig
from conceptseg.models.cpu.rounding import ROUNDED, roundable
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

RANDOM = (Tensor.uniform_, Tensor.normal_)  # with which modules start, beside all of torch.nn.init


@dataclass(frozen=True)
class Part:
    """Tensors of one file that go into the network."""

    weights: Weights
    layout: str
    pieces: list[Piece]

    def make(
        self, dtype: torch.dtype | None = None, rounded: Collection[str] = frozenset()
    ) -> dict[str, Tensor]:
        """Read the tensors, once.

        Args:
            dtype: of floating-point tensors; None: as they are.
            rounded: ours that become bfloat16 instead.
        """
        made = {}
        for piece in self.pieces:
            if piece.ours in rounded:  # before they are joined, so that less memory is filled
                halves = {key: self.weights[key].to(ROUNDED) for key in piece.keys}
                value = piece.make(halves, self.layout)
            else:
                value = piece.make(self.weights, self.layout)
                if dtype is not None and value.is_floating_point():
                    value = value.to(dtype)
            if not any(_shares(value, self.weights[key]) for key in piece.keys):
                for key in piece.keys:
                    self.weights.release(key)
            made[piece.ours] = value
        return made


@dataclass(frozen=True)
class Checkpoint:
    """Made by `loaders.open_checkpoint`, which has checked that the tensors are those of the network."""

    source: str  # path, for messages
    config: ModelConfig
    report: KeyReport
    parts: list[Part]
    carried: Callable[[], dict[str, Tensor]]  # what only the way back needs, by names that begin with UNUSED
    tokenizer_path: Path  # where to look for the tokenizer: a file beside it, or a folder
    zeros: tuple[str, ...] = ()  # parameters of ours that the layout does not have
    detector: Detector = field(kw_only=True)  # without memory; what the weights were checked against

    def state(
        self, dtype: torch.dtype | None = None, rounded: Collection[str] = frozenset()
    ) -> dict[str, Tensor]:
        """All weights of the network under our names. To be called once: what was copied is given back.

        Args:
            dtype: of floating-point tensors; None: as they lie in the file.
            rounded: tensors that become bfloat16 instead.
        """
        made: dict[str, Tensor] = {}
        for part in self.parts:
            made |= part.make(dtype, rounded)
        wanted = self.detector.state_dict()
        like = dtype or next((t.dtype for t in made.values() if t.is_floating_point()), torch.float32)
        return made | {
            name: torch.zeros(wanted[name].shape, dtype=ROUNDED if name in rounded else like)
            for name in self.zeros
        }

    def tokenizer(self) -> Tokenizer:
        """Find and read the tokenizer.

        Raises:
            CheckpointError: there is none, or it is not that of the text encoder.
        """
        text = self.config.architecture.text
        tokenizer = find_tokenizer(self.tokenizer_path, text.context_length)
        check_vocabulary(tokenizer, text.vocab_size, self.source)
        return tokenizer

    def load(self) -> Detector:
        """The network in eval mode, its weights as float32 on the CPU.

        Raises:
            CheckpointError: a weight is no finite number.
        """
        return self._loaded()

    def load_rounded(self) -> Detector:
        """The network on the CPU for bfloat16 inference alone: see `models/cpu/rounding.py`.

        Raises:
            CheckpointError: a weight is no finite number.
        """
        return self._loaded(roundable(self.detector))

    def _loaded(self, rounded: Collection[str] = frozenset()) -> Detector:
        state = self.state(torch.float32, rounded)
        check_numbers(state, self.source)
        assign(self.detector, state)
        return self.detector.eval()


def build_empty(config: DetectorConfig) -> Detector:
    """A detector whose weights have shapes but no memory: no time goes into random values."""
    with torch.device("meta"), _NoRandomValues():
        return build_detector(config)


class _NoRandomValues(TorchFunctionMode):
    """Leaves out the start values of tensors without memory.

    For random ones torch would import its compiler, which takes longer than all the rest of loading.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM or getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def assign(detector: Detector, state: Mapping[str, Tensor]) -> None:
    """Make these tensors the weights of a detector, without a copy."""
    detector.load_state_dict(state, assign=True)
    for parameter in detector.parameters():
        parameter.requires_grad_(parameter.dtype != ROUNDED)  # steps would be lost in rounding


def check_numbers(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are no numbers. As class logits have a limit, some would give answers all the same.

    Args:
        state: name -> tensor.
        source: of the weights, for the message.

    Raises:
        CheckpointError: names the first few.
    """
    numbers = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    # Each in its own type: `sum(dtype=...)` copies every weight first. In float16 it may overflow: see below.
    sums = [tensor.sum().float() for tensor in numbers.values()]
    if bool(torch.stack(sums).isfinite().all()):  # a sum is finite only if all of its parts are
        return
    bad = [name for name, tensor in numbers.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"the weights of {source} are damaged: {first_few(bad)} hold values that are not finite numbers"
        )


def shapes_of(plan: Plan, weights: Weights, layout: str) -> dict[str, torch.Size]:
    """Shape of each of our tensors, found out without reading one.

    Raises:
        CheckpointError: tensors cannot take our layout.
    """
    empty = {name: torch.empty(t.shape, dtype=t.dtype, device="meta") for name, t in weights.items()}
    return {piece.ours: piece.make(empty, layout).shape for piece in plan.pieces}


def check_fit(
    wanted: Mapping[str, torch.Size],
    given: Mapping[str, torch.Size],
    source: str,
    table: KeyTable | None = None,
    cause: str = "",
) -> None:
    """Refuse weights that are not exactly those of the network.

    Args:
        wanted: name -> shape of the network.
        given: of the weights.
        source: begins the message.
        table: says what missing keys are called in the file.
        cause: ends the message.

    Raises:
        CheckpointError: keys are missing or unexpected, or shapes differ; names the first few.
    """
    missing = sorted(set(wanted) - set(given))
    unexpected = sorted(set(given) - set(wanted))
    if missing or unexpected:
        if table is not None:
            missing = foreign_names(table, {name: wanted[name] for name in missing})
        parts = [_first_few("missing", missing), _first_few("unexpected", unexpected)]
        raise CheckpointError(f"{source}: {'; '.join(p for p in parts if p)}{cause}")
    for name, shape in given.items():
        if shape != wanted[name]:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(shape)}, the config asks for {tuple(wanted[name])}"
            )


def foreign_names(table: KeyTable, ours: Mapping[str, torch.Size]) -> list[str]:
    """What weights of ours are called in another layout, as far as it has them."""
    empty = {name: torch.empty(shape, device="meta") for name, shape in ours.items()}
    theirs, homeless = table.back(empty)
    return sorted([*theirs, *homeless])


def of_parts(names: Iterable[str], parts: Iterable[str]) -> list[str]:
    """The names that belong to some modules of the network."""
    wanted = set(parts)
    return [name for name in names if name.partition(".")[0] in wanted]


def network_pieces(plan: Plan) -> list[Piece]:
    return [piece for piece in plan.pieces if not piece.ours.startswith(UNUSED)]


def _shares(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _first_few(what: str, names: list[str]) -> str:
    return f"{len(names)} {what} ({first_few(names)})" if names else ""

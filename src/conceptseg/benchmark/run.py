"""`conceptseg benchmark`: one model in this library and, if asked, the same weights in `transformers`.

Both lie in memory together and take turns, so that a machine that is busy for a while is busy for both; every
figure is a median. Memory is measured in processes of their own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptseg.benchmark.flops import count_flops, matrix_peak
from conceptseg.benchmark.memory import peak_memory
from conceptseg.benchmark.programs import Arrays, Ours, Program, Transformers
from conceptseg.checkpoints.config_file import is_onnx_folder
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.huggingface_folder import PROCESSOR_FILES
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.choices import OtherProgram, check_choice
from conceptseg.errors import OptionError
from conceptseg.hub import find_model
from conceptseg.models.detector import Detector

DTYPE_OF_THEIRS = "float32"  # what `transformers` loads when it is not told otherwise


@dataclass(frozen=True)
class Measured:
    """Medians of one program."""

    stages: dict[str, float]  # seconds, one phrase on one image
    end_to_end: dict[int, float]  # phrases -> seconds, from file to masks
    memory: dict[str, float]  # MiB


@dataclass(frozen=True)
class Benchmark:
    """Everything that was measured; `report.py` writes it down."""

    model: str
    image: str
    resolution: int
    parameters: int | None  # None: an exported model
    device: str
    dtype: str  # of ours; theirs is `DTYPE_OF_THEIRS`
    threads: int
    repeats: int
    programs: dict[str, Measured]
    flops: dict[str, int] = field(default_factory=dict)  # by stage; empty for an exported model
    peak_flops: float = 0.0  # a second, of matrix products in ours' number type
    agreement: dict[str, float] = field(default_factory=dict)  # empty when nothing was compared

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def benchmark(
    model: str | Path,
    image: str | Path,
    *,
    against: OtherProgram | None = None,
    text: Sequence[str] = ("coin",),
    phrases: Sequence[int] = (1, 8),
    repeats: int = 5,
    device: str = "auto",
    dtype: str = "auto",
    their_dtype: str = DTYPE_OF_THEIRS,
    progress: Callable[[int, int], None] = lambda done, wanted: None,
) -> Benchmark:
    """Measure a model.

    Args:
        model: as for `load`.
        image: one file.
        against: "transformers", or None.
        text: phrases to ask; they are repeated up to the numbers below.
        phrases: how many at once, for each of these numbers.
        repeats: of everything; the median is kept.
        device: as for `load`.
        dtype: as for `load`.
        their_dtype: what `transformers` loads its weights in.
        progress: called with the rounds that are done, and of how many.

    Raises:
        OptionError: an impossible choice.
        CheckpointError: `transformers` has no such architecture.
    """
    if against is not None:
        check_choice("against", against, OtherProgram)
    if repeats < 1 or not phrases or min(phrases) < 1 or not text:
        raise OptionError("repeats and phrases must be at least 1, and there must be a text to ask")
    image = Path(image)
    ours = Ours(model, device, dtype)
    segmenter = ours.segmenter
    with tempfile.TemporaryDirectory(prefix="conceptseg-benchmark-") as scratch:
        programs: list[Program] = [ours]
        where = {ours.name: str(model)}
        if against is not None:
            folder = _huggingface_folder(find_model(model), Path(scratch) / "hf")
            programs.append(Transformers(folder, segmenter.device, their_dtype))
            where[against] = str(folder)
        dtypes = {ours.name: str(segmenter.dtype).removeprefix("torch."), Transformers.name: their_dtype}
        rounds = take_turns(programs, image, text, phrases, repeats, progress)
        measured = {}
        for program in programs:
            name = program.name
            memory = peak_memory(
                name, where[name], image, str(segmenter.device), dtypes[name], _asked(text, max(phrases))
            )
            measured[name] = Measured(**rounds[name], memory=memory)
        agreement = {}
        if against is not None:
            one, other = (program.raw(image, text[0]) for program in programs)
            agreement = compare(one, other, segmenter.resolution)
    torch_network = isinstance(segmenter.network, Detector)
    return Benchmark(
        model=str(model),
        image=image.name,
        resolution=segmenter.resolution,
        parameters=sum(p.numel() for p in segmenter.detector.parameters()) if torch_network else None,
        device=str(segmenter.device),
        dtype=dtypes[ours.name],
        threads=torch.get_num_threads(),
        repeats=repeats,
        programs=measured,
        flops=count_flops(segmenter, image, text[0]) if torch_network else {},
        peak_flops=matrix_peak(segmenter.device, segmenter.dtype),
        agreement=agreement,
    )


def compare(ours: Arrays, theirs: Arrays, resolution: int) -> dict[str, float]:
    """How far the raw outputs of two programs lie apart.

    Args:
        ours: of `Program.raw`.
        theirs: likewise.
        resolution: pixels of the image that boxes are told in.

    Returns:
        class_logits and presence_logits: largest difference as a share of the largest value; boxes: largest
        difference in pixels; mask_iou: the smallest among queries that have a mask in either.
    """

    def relative(name: str) -> float:
        largest = max(float(np.abs(theirs[name]).max()), 1e-12)
        return float(np.abs(ours[name] - theirs[name]).max()) / largest

    a, b = ours["mask_logits"] > 0, theirs["mask_logits"] > 0
    union = (a | b).sum((1, 2))
    shared = (a & b).sum((1, 2))
    iou = shared[union > 0] / union[union > 0]
    return {
        "class_logits": relative("class_logits"),
        "presence_logits": relative("presence_logits"),
        "boxes_px": float(np.abs(ours["boxes_xyxy"] - theirs["boxes_xyxy"]).max()) * resolution,
        "mask_iou_least": float(iou.min()) if len(iou) else 1.0,
        "mask_iou_mean": float(iou.mean()) if len(iou) else 1.0,
    }


def take_turns(
    programs: Sequence[Program],
    image: Path,
    text: Sequence[str],
    phrases: Sequence[int],
    repeats: int,
    progress: Callable[[int, int], None],
) -> dict[str, dict[str, Any]]:
    """Program by program, round by round; the first round warms up and is not counted."""
    stages: dict[str, list[dict[str, float]]] = {program.name: [] for program in programs}
    whole: dict[str, dict[int, list[float]]] = {
        program.name: {count: [] for count in phrases} for program in programs
    }
    for number in range(repeats + 1):
        progress(number, repeats + 1)
        for program in programs:
            found = program.stages(image, text[0])
            if number:
                stages[program.name].append(found)
            for count in phrases:
                with _seconds(program.device) as seconds:
                    program.answer(image, _asked(text, count))
                if number:
                    whole[program.name][count] += seconds
    progress(repeats + 1, repeats + 1)
    return {
        name: {
            "stages": {
                stage: statistics.median(one[stage] for one in stages[name]) for stage in stages[name][0]
            },
            "end_to_end": {count: statistics.median(times) for count, times in whole[name].items()},
        }
        for name in stages
    }


@contextmanager
def _seconds(device: torch.device) -> Iterator[list[float]]:
    taken: list[float] = []
    start = time.perf_counter()
    yield taken
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken.append(time.perf_counter() - start)


def _asked(text: Sequence[str], count: int) -> list[str]:
    """The given phrases, over and over, until there are so many."""
    return [text[i % len(text)] for i in range(count)]


def _huggingface_folder(path: Path, scratch: Path) -> Path:
    """The same weights in the layout of `transformers`: the model itself, or a converted copy."""
    if is_onnx_folder(path):
        raise OptionError(f"{path} was exported; to compare, give the model that it was exported from")
    is_theirs = (path / "config.json").is_file() and '"sam3' in (path / "config.json").read_text(
        encoding="utf-8"
    )
    if is_theirs and any((path / name).is_file() for name in PROCESSOR_FILES):
        return path
    convert(open_checkpoint(path), scratch, "hf")
    return scratch

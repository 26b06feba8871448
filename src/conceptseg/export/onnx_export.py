"""A model -> an ONNX folder that computes the same; the folder appears only when every graph was compared."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conceptseg.checkpoints.checkpoint import check_numbers
from conceptseg.checkpoints.onnx_folder import FILES, GRAPHS, OnnxInfo, write_onnx_config
from conceptseg.choices import Quantize, check_choice
from conceptseg.device import choose_resolution
from conceptseg.errors import OptionError
from conceptseg.export.check import check_graph, real_arguments
from conceptseg.export.graphs import DetectorGraph, ExemplarGraph, Graph, TextGraph, VisionGraph
from conceptseg.export.quantize import check_quantised, quantise_graph
from conceptseg.export.to_onnx import OPSET, write_graph
from conceptseg.extras import require
from conceptseg.segmenter import Segmenter


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: dict[str, int]  # name -> bytes
    differences: dict[str, dict[str, float]]  # graph -> output -> from torch; empty when not compared


def export_onnx(
    segmenter: Segmenter,
    folder: str | Path,
    *,
    resolution: int | None = None,
    quantize: Quantize = "none",
    check: bool = True,
    progress: Callable[[int, int], None] = lambda done, wanted: None,
) -> Exported:
    """Write the four graphs, the config and the tokenizer.

    Args:
        segmenter: holds the model; exported in float32 on the CPU.
        folder: made when missing; files of an earlier export are replaced.
        resolution: pixels per side that the graphs take; None: the segmenter's.
        quantize: "int8" stores weights in 8 bits and multiplies matrices in them.
        check: compare every graph with torch, on random inputs and on a photograph.
        progress: called with how many graphs are done, and of how many.

    Raises:
        CheckpointError: a weight is no finite number.
        ExportError: a graph drifts from torch, or cannot be written as plain ONNX. Nothing is left behind.
        MissingDependencyError: a package of the extra `onnx` is not installed.
        OptionError: an impossible resolution or choice, or the model was loaded in bfloat16.
    """
    check_choice("quantize", quantize, Quantize)
    folder, config = Path(folder), segmenter.config
    detector = segmenter.trainable()
    if next(detector.parameters()).device.type != "cpu":
        raise OptionError("load the model with device='cpu' to export it")
    stride = config.architecture.vision.stride
    resolution = choose_resolution(resolution, segmenter.resolution, stride)
    require("onnx", "exporting to ONNX")
    check_numbers(detector.state_dict(), "this model")

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        real = real_arguments(detector, segmenter.tokenizer, config, resolution) if check else {}
        differences: dict[str, dict[str, float]] = {}
        levels_hw: dict[str, tuple[int, int]] = {}
        for number, name in enumerate(GRAPHS):
            progress(number, len(GRAPHS))
            graph = _graph(name, segmenter, resolution, levels_hw)
            path = draft / f"{name}.onnx"
            write_graph(graph, path)
            if name == "vision":
                levels_hw = _level_sizes(path)
            if check:
                differences[name] = check_graph(graph, path, real[name])
            if quantize == "int8":
                quantise_graph(path, whole_products=name != "exemplar")
                if check:
                    differences[name] = check_quantised(graph, path, real[name])
        info = OnnxInfo(resolution, OPSET, segmenter.fingerprint, quantize, differences)
        segmenter.tokenizer.save(draft / "tokenizer.json")
        write_onnx_config(draft, config, info)
        progress(len(GRAPHS), len(GRAPHS))
        sizes = {file.name: file.stat().st_size for file in sorted(draft.iterdir())}
        _move(draft, folder)
        return Exported(folder, sizes, differences)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _graph(name: str, segmenter: Segmenter, resolution: int, levels_hw: dict[str, tuple[int, int]]) -> Graph:
    detector = segmenter.detector
    if name == "vision":
        return VisionGraph(detector, resolution).eval()
    if name == "text":
        return TextGraph(detector).eval()
    return (ExemplarGraph if name == "exemplar" else DetectorGraph)(detector, levels_hw).eval()


def _level_sizes(vision: Path) -> dict[str, tuple[int, int]]:
    """Feature level -> height and width, as the written graph gives them."""
    import onnx

    sizes = {}
    for value in onnx.load(str(vision), load_external_data=False).graph.output:
        *_, height, width = (axis.dim_value for axis in value.type.tensor_type.shape.dim)
        sizes[value.name] = (height, width)
    return sizes


def _move(draft: Path, folder: Path) -> None:
    """Put the finished files in place, the config last: a folder without it is not taken for a model."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    for old in (*FILES, *(f"{graph}.onnx.data" for graph in GRAPHS)):
        (folder / old).unlink(missing_ok=True)
    for file in sorted(draft.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, folder / file.name)

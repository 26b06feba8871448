"""One graph -> one ONNX file, by torch's exporter: opset 18, standard operators only, no complex numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from conceptseg.errors import ExportError
from conceptseg.export.graphs import Graph

OPSET = 18  # what ONNX Runtime (also on the web), OpenVINO and TensorRT all read
ONE_FILE = 1_500_000_000  # bytes of weights; beyond this they go beside the graph, whose format ends at 2 GB
LARGEST_WEIGHT = 2**31  # bytes of a weight that is sliced or transposed in the file, not in every run
STANDARD_DOMAINS = {"", "ai.onnx"}


def write_graph(graph: Graph, path: Path, one_file: int = ONE_FILE) -> None:
    """Trace a graph and write it; weights beyond `one_file` bytes go into `NAME.onnx.data` beside it.

    Raises:
        ExportError: the result is not plain ONNX.
    """
    import torchvision  # noqa: F401  # brings the operator that the table below names
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    # Fused attention has a memory layout of its own on each device; what is traced has to be the plain one.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _quiet():
        program = torch.onnx.export(
            graph.eval(),
            (graph.examples(),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[value.name for value in graph.inputs],
            output_names=graph.outputs,
            dynamic_shapes=(_open_axes(graph),),  # of the one parameter; torch 2.9 cannot name `*values`
            custom_translation_table={torch.ops.torchvision.roi_align.default: roi_align_in_onnx},
            external_data=False,
            verbose=False,
        )
        assert program is not None  # it is only when a path is given to export()
        # Slices and transposes of weights become weights: what reads the file sees plain matrices.
        fold_constants(program.model, input_size_limit=LARGEST_WEIGHT, output_size_limit=LARGEST_WEIGHT)
        remove_unused_nodes(program.model)
        size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
        program.save(path, external_data=size > one_file)
    _check_standard(path)


def roi_align_in_onnx(
    features: Any,
    boxes_of_images: Any,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    """torchvision's ROIAlign as the standard operator; torch's exporter has no translation of its own."""
    from onnxscript import opset18

    op: Any = opset18  # typed for constants, used on traced values
    owner = op.Cast(op.Gather(boxes_of_images, op.Constant(value_int=0), axis=1), to=7)  # 7: int64
    first, end, axis = (op.Constant(value_ints=[number]) for number in (1, 5, 1))
    return op.RoiAlign(
        features,
        op.Slice(boxes_of_images, first, end, axis),
        owner,
        mode="avg",
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        output_height=pooled_height,
        output_width=pooled_width,
        sampling_ratio=max(sampling_ratio, 0),  # 0: as many as the size of the box asks for
        spatial_scale=spatial_scale,
    )


def _open_axes(graph: Graph) -> list[dict[int, Any]]:
    names = {axis for value in graph.inputs for axis in value.axes if isinstance(axis, str)}
    # To torch's tracer 1 is special, and 2.9 refuses an axis that may be 1. ONNX knows no such bound, and
    # the check of what is written has axes of 1 too.
    dims = {name: torch.export.Dim(name, min=2) for name in names}
    return [
        {i: dims[axis] for i, axis in enumerate(value.axes) if isinstance(axis, str)}
        for value in graph.inputs
    ]


def _check_standard(path: Path) -> None:
    """Refuse custom operators and complex numbers, which other runtimes do not read."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in graph.node if n.domain not in STANDARD_DOMAINS})
    complex_types = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
    values = [*graph.input, *graph.output, *graph.value_info]
    kinds = {value.type.tensor_type.elem_type for value in values} | {w.data_type for w in graph.initializer}
    if foreign or kinds.intersection(complex_types):
        what = f"operators {', '.join(foreign)}" if foreign else "complex numbers"
        raise ExportError(f"{path.name} came out with {what}; this torch cannot export the model")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter comments on its own work in warnings and log messages that a user can do nothing about."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Eight bits for weights: files a quarter as large, and matrix products in whole numbers.

Products of activations with a weight matrix become `DynamicQuantizeLinear` and `MatMulInteger`, with one
scale per column of the matrix and one per activation tensor, found anew on every call. Convolutions and
tables keep computing in float32, from weights stored in 8 bits (`DequantizeLinear`, one scale per output
channel or row), and so do the products of the exemplar encoder: it sums tokens of very different size, of
which one scale would lose the small ones. All of these are standard operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from conceptseg.errors import ExportError
from conceptseg.export.check import differences
from conceptseg.export.graphs import Graph
from conceptseg.runtime.onnx_detector import open_session

Array: TypeAlias = "npt.NDArray[Any]"

# What the photograph's outputs may differ by: root of the mean square, as a share of the output's own.
ALLOWED = 0.1
SMALLEST = 4096  # numbers in a weight; smaller ones are left alone

# Operator that computes in float32 -> which input is the weight, and along which axis a scale stands for one.
STORED = {"Conv": (1, 0), "ConvTranspose": (1, 1), "Gather": (0, 0), "MatMul": (1, 1)}


def quantise_graph(path: Path, whole_products: bool = True) -> None:
    """Replace an ONNX file (and its external data) by its 8-bit form.

    Args:
        path: of the file.
        whole_products: multiply matrices in whole numbers; False: everything computes in float32.
    """
    import onnx

    data = path.with_name(f"{path.name}.data")
    external = data.is_file()
    model = onnx.load(str(path))
    weights = {value.name: value for value in model.graph.initializer}
    made: list[Any] = []
    quantised = _Quantised(weights)
    for node in model.graph.node:
        if whole_products and node.op_type in ("MatMul", "Gemm") and quantised.is_matrix(node):
            made += quantised.product(node)
        else:
            if node.op_type in STORED:
                made += quantised.stored(node)
            made.append(node)
    del model.graph.node[:]
    model.graph.node.extend(made)
    read = {name for node in made for name in node.input}
    kept = [value for value in (*weights.values(), *quantised.added) if value.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    data.unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=external, location=data.name)


def check_quantised(
    graph: Graph, path: Path, real: list[Tensor], allowed: float = ALLOWED
) -> dict[str, float]:
    """Compare an 8-bit graph with torch, on the photograph alone: random inputs say little about rounding.

    Returns:
        Output -> root of the mean square difference, as a share of the output's own.

    Raises:
        ExportError: more than allowed.
    """
    apart = differences(graph, open_session(path), real)
    found = {name: difference.relative for name, difference in apart.items()}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= allowed:  # NaN fails the comparison too
        raise ExportError(
            f"in 8 bits {path.name} loses too much: {worst} differs by {found[worst]:.1%} (root of the mean "
            f"square), allowed are {allowed:.0%}; nothing was exported"
        )
    return found


class _Quantised:
    """Makes the nodes that stand for one that had a float weight; `added` are the weights they read."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.added: list[Any] = []
        self._done: set[str] = set()  # weights and activations that are quantised already

    def is_matrix(self, node: Any) -> bool:
        """Whether this is a product with a constant matrix, in a form that `product` knows."""
        weight = self.weights.get(node.input[1])
        options = {a.name: a.f if a.type == 1 else a.i for a in node.attribute}
        plain = not options.get("transA") and options.get("alpha", 1) == options.get("beta", 1) == 1
        return weight is not None and len(weight.dims) == 2 and np.prod(weight.dims) >= SMALLEST and plain

    def product(self, node: Any) -> list[Any]:
        """x @ W (+ bias) in whole numbers."""
        from onnx import TensorProto, helper, numpy_helper

        x, weight, out = node.input[0], node.input[1], node.output[0]
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        name = f"{weight}.columns"
        if name not in self._done:
            values = numpy_helper.to_array(self.weights[weight])
            self._add(name, values.T if transposed else values, axis=1)
        nodes = []
        if x not in self._done:
            self._done.add(x)
            parts = [f"{x}.{part}" for part in ("uint8", "scale", "zero")]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [x], parts))
        steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
            ("MatMulInteger", [f"{x}.uint8", f"{name}.int8", f"{x}.zero"], f"{out}.whole", {}),
            ("Cast", [f"{out}.whole"], f"{out}.float", {"to": TensorProto.FLOAT}),
            ("Mul", [f"{x}.scale", f"{name}.scale"], f"{out}.scales", {}),
            ("Mul", [f"{out}.float", f"{out}.scales"], f"{out}.product", {}),
        ]
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias:
            steps.append(("Add", [f"{out}.product", bias], out, {}))
        else:
            steps[-1] = ("Mul", [f"{out}.float", f"{out}.scales"], out, {})
        return nodes + [helper.make_node(kind, inputs, [made], **more) for kind, inputs, made, more in steps]

    def stored(self, node: Any) -> Iterator[Any]:
        """The node that restores a weight in front of its reader, once."""
        from onnx import helper, numpy_helper

        place, axis = STORED[node.op_type]
        weight = node.input[place]
        value = self.weights.get(weight)
        if value is None or value.data_type != 1 or np.prod(value.dims) < SMALLEST:  # 1: float32
            return
        if weight not in self._done:
            self._add(weight, numpy_helper.to_array(value), axis)
            parts = [f"{weight}.int8", f"{weight}.scale"]
            yield helper.make_node("DequantizeLinear", parts, [f"{weight}.restored"], axis=axis)
        node.input[place] = f"{weight}.restored"

    def _add(self, name: str, values: Array, axis: int) -> None:
        """Store `values` as whole numbers with a scale for each index along `axis`."""
        from onnx import numpy_helper

        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(axis=others) / 127, 1e-12).astype(np.float32)
        whole = np.rint(values / np.expand_dims(scale, others)).astype(np.int8)
        self.added += [numpy_helper.from_array(np.ascontiguousarray(whole), f"{name}.int8")]
        self.added += [numpy_helper.from_array(scale, f"{name}.scale")]
        self._done.add(name)

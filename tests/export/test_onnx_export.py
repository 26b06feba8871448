"""What is in the files, and what happens when a graph is wrong."""

import numpy as np
import onnx
import pytest
import torch

import conceptseg as cs
from conceptseg.export import onnx_export
from conceptseg.export.check import Difference, check_graph, differences
from conceptseg.export.graphs import TextGraph
from conceptseg.export.onnx_export import export_onnx
from conceptseg.export.quantize import quantise_graph
from conceptseg.export.to_onnx import write_graph
from conceptseg.runtime.onnx_detector import open_session

GRAPHS = ("vision", "text", "exemplar", "detector")


def axes(values):
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values
    }


def test_inputs_and_outputs_have_the_documented_names_and_open_axes(tiny_onnx_folder):
    graphs = {name: onnx.load(tiny_onnx_folder / f"{name}.onnx").graph for name in GRAPHS}
    assert axes(graphs["vision"].input) == {"pixels": ["images", 3, 96, 96]}
    assert axes(graphs["vision"].output) == {
        "level_0": ["images", 32, 24, 24],
        "level_1": ["images", 32, 12, 12],
    }
    assert axes(graphs["text"].input) == {"token_ids": ["prompts", 16]}
    assert axes(graphs["text"].output) == {"tokens": ["prompts", 16, 32], "padding_mask": ["prompts", 16]}
    assert axes(graphs["exemplar"].input) == {
        "level_1": ["images", 32, 12, 12],
        "image_index": ["prompts"],
        "boxes_cxcywh": ["prompts", "boxes", 4],
        "box_labels": ["prompts", "boxes"],
        "box_padding": ["prompts", "boxes"],
    }
    assert axes(graphs["exemplar"].output) == {
        "tokens": ["prompts", "boxes + 1", 32],
        "padding_mask": ["prompts", "boxes + 1"],
    }
    assert axes(graphs["detector"].input) == {
        "level_0": ["images", 32, 24, 24],
        "level_1": ["images", 32, 12, 12],
        "image_index": ["prompts"],
        "prompt_tokens": ["prompts", "tokens", 32],
        "prompt_padding_mask": ["prompts", "tokens"],
    }
    assert axes(graphs["detector"].output) == {
        "class_logits": ["prompts", 12],
        "boxes_cxcywh": ["prompts", 12, 4],
        "presence_logits": ["prompts"],
        "mask_logits": ["prompts", 12, 24, 24],
        "semantic_logits": ["prompts", 1, 24, 24],
        "hidden": ["prompts", 12, 32],
    }


def test_graphs_are_plain_onnx_of_opset_18(tiny_onnx_folder):
    for name in GRAPHS:
        model = onnx.load(tiny_onnx_folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
        assert {node.domain for node in model.graph.node} == {""} and not model.functions


def test_weight_matrices_stand_in_the_file_as_matrices(tiny_onnx_folder):
    graph = onnx.load(tiny_onnx_folder / "detector.onnx").graph
    weights = {value.name for value in graph.initializer}
    made_of_weights = [
        node
        for node in graph.node
        if node.op_type in ("Transpose", "Slice", "Split") and node.input[0] in weights
    ]
    assert made_of_weights == []


def test_exporting_leaves_the_model_as_it_was(tiny_segmenter, tiny_onnx_folder, picture):
    forward = type(tiny_segmenter.detector).forward
    assert tiny_segmenter.detector.forward.__func__ is forward
    assert not any("forward" in vars(module) for module in tiny_segmenter.detector.modules())
    assert len(tiny_segmenter.segment(picture, text="coin", threshold=0)) == 12


def test_a_graph_that_drifts_is_refused_and_leaves_nothing_behind(make_segmenter, tmp_path, monkeypatch):
    def write_something_else(graph, path):
        with torch.no_grad():
            parameter = next(graph.detector.text_encoder.parameters())
            parameter.mul_(1.01)
            write_graph(graph, path)
            parameter.div_(1.01)

    segmenter = make_segmenter()
    monkeypatch.setattr(onnx_export, "write_graph", write_something_else)
    monkeypatch.setattr(onnx_export, "GRAPHS", ("text",))
    with pytest.raises(cs.ExportError, match="text.onnx does not compute what the model computes: tokens"):
        export_onnx(segmenter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_counts_as_drift(tiny_segmenter, tmp_path):
    graph = TextGraph(tiny_segmenter.detector).eval()
    write_graph(graph, tmp_path / "text.onnx")
    ids = tiny_segmenter.tokenizer(["coin"])
    assert max(check_graph(graph, tmp_path / "text.onnx", [ids]).values()) < 1e-4
    broken = onnx.load(tmp_path / "text.onnx")
    table = next(w for w in broken.graph.initializer if w.name.endswith("norm.weight"))
    table.CopyFrom(onnx.numpy_helper.from_array(np.full(table.dims, np.nan, np.float32), table.name))
    onnx.save(broken, tmp_path / "text.onnx")
    with pytest.raises(cs.ExportError, match="differs by nan"):
        check_graph(graph, tmp_path / "text.onnx", [ids])


def test_large_numbers_may_differ_by_a_share_of_the_largest():
    """Mask logits of a large model reach hundreds, where float32 itself rounds to more than a thousandth."""
    assert Difference(absolute=0.002, relative=0.0, largest=41.0).bound(1e-3) == pytest.approx(0.0041)
    assert Difference(absolute=0.002, relative=0.0, largest=1.0).bound(1e-3) == 1e-3


def test_an_earlier_export_is_replaced_and_a_failed_one_leaves_it(make_segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "GRAPHS", ("text",))
    out = tmp_path / "out"
    segmenter = make_segmenter()
    export_onnx(segmenter, out, check=False)
    (out / "notes.txt").write_text("mine")
    first = (out / "text.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "write_graph", lambda graph, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_onnx(segmenter, out)
    assert (out / "text.onnx").read_bytes() == first and (out / "config.json").is_file()
    monkeypatch.setattr(onnx_export, "write_graph", write_graph)
    export_onnx(make_segmenter(seed=3), out, check=False)
    assert (out / "text.onnx").read_bytes() != first and (out / "notes.txt").read_text() == "mine"


def test_large_weights_go_into_a_file_beside_the_graph(tiny_segmenter, tmp_path):
    graph = TextGraph(tiny_segmenter.detector).eval()
    write_graph(graph, tmp_path / "text.onnx", one_file=1000)
    assert (tmp_path / "text.onnx.data").stat().st_size > (tmp_path / "text.onnx").stat().st_size / 2
    ids = tiny_segmenter.tokenizer(["coin"])
    assert differences(graph, open_session(tmp_path / "text.onnx"), [ids])["tokens"].absolute < 1e-4
    quantise_graph(tmp_path / "text.onnx")
    assert differences(graph, open_session(tmp_path / "text.onnx"), [ids])["tokens"].relative < 0.05


def test_impossible_choices_are_refused(tiny_segmenter, tmp_path):
    with pytest.raises(cs.OptionError, match="unknown quantize 'int4'; choose 'none', 'int8'"):
        export_onnx(tiny_segmenter, tmp_path / "out", quantize="int4")
    with pytest.raises(cs.OptionError, match="resolution 100 is not a positive multiple of 32"):
        export_onnx(tiny_segmenter, tmp_path / "out", resolution=100)

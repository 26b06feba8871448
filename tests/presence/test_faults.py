"""Faults that look like a collapse: each is put in on purpose, and the verdict names it and nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import conceptseg as cs
from conceptseg.conformance.weights import randomise, tiny_config
from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.models.build import build_detector
from conceptseg.models.config import TextConfig
from conceptseg.models.cpu import modules
from conceptseg.models.layers.attention import Attention
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.models.vision import vit
from conceptseg.presence.diagnosis import Diagnosis, diagnose
from conceptseg.presence.faults import find_faults
from conceptseg.presence.report import write_diagnosis
from conceptseg.segmenter import Segmenter
from tests.evaluation.scripted import write_coco

LEFT, RIGHT = [0, 0, 40, 48], [24, 0, 64, 48]
PHRASES = ["coin", "a very large striped star"]


@pytest.fixture
def data(tmp_path: Path) -> ConceptDataset:
    images = {"a.png": {PHRASES[0]: [LEFT]}, "b.png": {PHRASES[1]: [LEFT, RIGHT]}}
    return open_dataset(write_coco(tmp_path / "data", images))


def model(
    text: str = "mobileclip", seed: int = 0, words: list[str] = PHRASES, says: float = -50, **changes: Any
) -> Segmenter:
    """A tiny SAM 3 that looks trained, and by its presence says no (or yes) to everything.

    `changes` are to the config of its text encoder.
    """
    config = tiny_config(text)
    architecture = config.architecture
    given = dataclasses.replace(architecture.text, **changes)
    config = dataclasses.replace(config, architecture=dataclasses.replace(architecture, text=given))
    detector = build_detector(config.architecture)
    randomise(detector, seed)
    detector.decoder.presence_head.mlp.layers[-1].bias.data.add_(says)
    return Segmenter(detector, Tokenizer(train_tokenizer(words, 320), given.context_length), config)


def verdict_names(diagnosis: Diagnosis, kind: str, *words: str) -> None:
    assert [fault.kind for fault in diagnosis.faults] == [kind]
    assert diagnosis.verdict.repair == "fault"
    assert diagnosis.verdict.reason.startswith(f"{kind}: ")
    for word in words:
        assert word in diagnosis.verdict.reason


def mask_padding(segmenter: Segmenter) -> Segmenter:
    """Its text encoder's attention leaves padding out, as in `transformers`."""
    text, asked = segmenter.detector.text_encoder, []
    text.register_forward_pre_hook(lambda module, given: asked.append(given[0]))
    for module in text.modules():
        if isinstance(module, Attention):
            plain = module.forward

            def masked(*args: Any, plain: Any = plain, **options: Any) -> torch.Tensor:
                return plain(*args, key_padding_mask=asked[-1] == 0, **options)

            module.forward = masked  # type: ignore[method-assign]
    return segmenter


@pytest.mark.parametrize("text", ["clip", "mobileclip"])
@pytest.mark.parametrize("with_teacher", [False, True])
def test_a_presence_that_is_off_without_a_fault_is_no_fault(
    data: ConceptDataset, text: str, with_teacher: bool
) -> None:
    teacher = model(text, seed=1) if with_teacher else None
    diagnosis = diagnose(model(text, says=50), data, teacher)
    assert diagnosis.faults == []
    assert diagnosis.verdict.repair not in ("fault", "none")


def test_trained_weights_look_trained() -> None:
    assert find_faults(cs.load("nano"), None, ["red circle"]) == []


def test_padding_that_is_masked(data: ConceptDataset) -> None:
    verdict_names(diagnose(mask_padding(model()), data), "padding", "padding is masked")


def test_padding_that_clip_reads(data: ConceptDataset) -> None:
    wrong = model("clip")
    for block in wrong.detector.text_encoder.blocks:
        block.causal = False  # type: ignore[assignment]
    verdict_names(diagnose(wrong, data), "padding", "what comes later, is read")


def test_weights_that_were_trained_with_padding_masked(data: ConceptDataset) -> None:
    diagnosis = diagnose(model(says=50), data, mask_padding(model()))
    verdict_names(diagnosis, "padding", "with padding masked 1.000")


def test_another_context_length_than_the_teachers(data: ConceptDataset) -> None:
    diagnosis = diagnose(model(says=50, context_length=16), data, model(context_length=20))
    verdict_names(diagnosis, "context length", "reads 16 tokens", "the teacher's reads 20")


def test_a_context_length_that_no_file_told(data: ConceptDataset) -> None:
    wrong = model(context_length=77, positions=77)
    verdict_names(diagnose(wrong, data), "context length", "77 tokens", "trained with 16 or 32")


def test_a_context_length_under_which_words_come_closer_to_the_teachers(data: ConceptDataset) -> None:
    taught = model(context_length=16, positions=32)
    # The teacher is of another kind, and gives the words that this student learned.
    other = dataclasses.replace(
        taught.config.architecture, text=TextConfig(vocab_size=320, context_length=16)
    )
    teacher = Segmenter(
        taught.detector, taught.tokenizer, dataclasses.replace(taught.config, architecture=other)
    )
    wrong = model(says=50, context_length=32, positions=32)
    diagnosis = diagnose(wrong, data, teacher)
    verdict_names(diagnosis, "context length", "with 16 tokens 1.000")


def test_a_tokenizer_of_another_size_than_clips(data: ConceptDataset) -> None:
    wrong = model("clip", vocab_size=49408)
    verdict_names(diagnose(wrong, data), "tokenizer", "tokens, the token table has 49,408 rows")


def test_a_tokenizer_that_is_not_the_teachers(data: ConceptDataset) -> None:
    wrong = model(says=50, words=["boat", "a small plain boat"])
    verdict_names(diagnose(wrong, data, model()), "tokenizer", "with the teacher's tokenizer")


@pytest.mark.parametrize("part", ["vision_encoder", "text_encoder", "decoder", "mask_head"])
def test_another_norm_epsilon(data: ConceptDataset, part: str) -> None:
    wrong = model()
    for module in wrong.detector.get_submodule(part).modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            module.eps = 1e-6
    verdict_names(diagnose(wrong, data), "norm epsilon", "1e-06", part)


@pytest.mark.parametrize("rounded", ["tables", "product"])
def test_rotary_positions_in_half_precision(
    data: ConceptDataset, monkeypatch: pytest.MonkeyPatch, rounded: str
) -> None:
    if rounded == "tables":
        table = vit.axial_rope_table
        half = lambda *where: tuple(it.bfloat16().float() for it in table(*where))  # noqa: E731
        monkeypatch.setattr(vit, "axial_rope_table", half)
    else:
        turn = modules.rotate_by_complex_product
        half = lambda x, *tables: turn(x.bfloat16(), *tables).to(x.dtype)  # noqa: E731
        monkeypatch.setattr(modules, "rotate_by_complex_product", half)
    verdict_names(diagnose(model(), data), "rotary positions", "differs by")


def test_a_whole_image_that_is_not_squeezed_into_the_range_of_a_window(
    data: ConceptDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = vit.axial_rope_table
    monkeypatch.setattr(
        vit, "axial_rope_table", lambda h, w, c, theta, scale, device: table(h, w, c, theta, 1.0, device)
    )
    verdict_names(diagnose(model(), data), "rotary positions", "blocks.1.attention")


@pytest.mark.parametrize("part", ["fusion_encoder", "decoder", "text_encoder", "vision_encoder", "scoring"])
def test_a_part_that_was_missing_and_is_random(data: ConceptDataset, part: str) -> None:
    wrong = model()
    fresh = build_detector(wrong.config.architecture).get_submodule(part).state_dict()
    wrong.detector.get_submodule(part).load_state_dict(fresh)
    verdict_names(diagnose(wrong, data), "weights", "are as a network starts", part)


def test_a_matrix_that_was_missing_and_is_zero(data: ConceptDataset) -> None:
    wrong = model()
    wrong.detector.fusion_encoder.layers[1].feed_forward.linear1.weight.data.zero_()  # type: ignore[union-attr]
    verdict_names(diagnose(wrong, data), "weights", "1 of ", "fusion_encoder.layers.1.feed_forward.linear1")


def test_one_random_layer_of_a_trained_model_is_found() -> None:
    wrong = cs.load("nano")
    nn.init.xavier_uniform_(wrong.detector.fusion_encoder.layers[1].feed_forward.linear1.weight)  # type: ignore[union-attr]
    (fault,) = find_faults(wrong, None, ["red circle"])
    assert fault.kind == "weights" and "fusion_encoder.layers.1.feed_forward.linear1.weight" in fault.finding


def test_faults_are_written_with_their_remedy(data: ConceptDataset, tmp_path: Path) -> None:
    diagnosis = diagnose(model(context_length=77, positions=77), data)
    write_diagnosis(diagnosis, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert values["verdict"]["repair"] == "fault"
    (fault,) = values["faults"]
    assert fault["kind"] == "context length" and "text_context=16 or text_context=32" in fault["remedy"]

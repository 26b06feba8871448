"""Two models compared component by component, and what is said of what has no counterpart."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conceptseg.models.detector import Detector, DetectorTrace
from conceptseg.models.prompts import GeometricPrompt, PromptTokens
from conceptseg.presence.drift import Drift
from tests.models.tiny import boxes, pixels, tiny_detector, token_ids


def inside(detector: Detector) -> DetectorTrace:
    index = torch.zeros(3, dtype=torch.long)
    with torch.inference_mode():
        found = detector(pixels(), token_ids(), boxes(), index)
    assert found is not None
    return found


def test_a_model_has_not_drifted_from_itself() -> None:
    drift = Drift()
    own = inside(tiny_detector())
    drift.add(own, own, same_words=True)
    figures = drift.result()
    assert list(figures) == [
        "vision trunk",
        "neck, map 1",
        "neck, map 2",
        "neck, map 3",
        "text",
        "fusion memory",
        "decoder layer 1",
        "decoder layer 2",
        "decoder layer 3",
        "presence feature",
    ]
    assert all(it.cosine == pytest.approx(1, abs=1e-6) for it in figures.values())
    assert drift.notes == []


def test_padding_of_words_is_not_compared() -> None:
    # 3 + 6 + 4 real tokens of the three phrases.
    drift = Drift()
    own = inside(tiny_detector())
    drift.add(own, own, same_words=True)
    assert drift.result()["text"].tokens == 13


def test_changed_words_show_in_text_and_after_it_but_not_in_the_image() -> None:
    other = tiny_detector()
    with torch.no_grad():
        other.text_encoder.projection.weight.mul_(-1)
    drift = Drift()
    drift.add(inside(other), inside(tiny_detector()), same_words=True)
    figures = drift.result()
    assert figures["vision trunk"].relative_error == 0
    assert figures["text"].cosine is not None and figures["text"].cosine < 0.9
    assert (
        figures["fusion memory"].relative_error is not None and figures["fusion memory"].relative_error > 0.01
    )


def with_trunk(trace: DetectorTrace, trunk: list[torch.Tensor]) -> DetectorTrace:
    """The same of a network with other maps."""
    image = dataclasses.replace(trace.image, trunk=trunk)
    return dataclasses.replace(trace, source=dataclasses.replace(trace.source, image=image))


def test_maps_of_another_size_are_resized_and_it_is_said() -> None:
    teacher = inside(tiny_detector())
    trunk = [torch.nn.functional.interpolate(teacher.image.trunk[0], scale_factor=2.0)]
    drift = Drift()
    drift.add(with_trunk(teacher, trunk), teacher, same_words=True)
    assert drift.notes == ["vision trunk: the student's (14, 14) map was resized to the teacher's (7, 7)"]
    assert drift.result()["vision trunk"].cosine == pytest.approx(1, abs=1e-5)


def test_what_has_no_counterpart_is_left_out_and_said() -> None:
    teacher = inside(tiny_detector())
    student = with_trunk(teacher, teacher.image.trunk * 2)
    student.decoded = dataclasses.replace(teacher.decoded, hidden=teacher.decoded.hidden[:, :2])
    drift = Drift()
    drift.add(student, teacher, same_words=False)
    assert [note.split(":")[0] for note in drift.notes] == ["vision trunk", "text", "decoder"]
    assert "2 queries against 6" in drift.notes[2]
    assert drift.result()["text"].tokens == 3  # pooled phrases
    assert not any(name.startswith("decoder") for name in drift.result())


def test_exemplar_tokens_are_compared_without_padding() -> None:
    detector = tiny_detector()
    with torch.inference_mode():
        image = detector.encode_images(pixels())
        prompt: GeometricPrompt = boxes()
        tokens = detector.encode_exemplars(image, prompt, torch.zeros(3, dtype=torch.long))
    drift = Drift()
    drift.add_exemplars(tokens, PromptTokens(2 * tokens.tokens, tokens.padding_mask))
    figures = drift.result()["exemplar tokens"]
    assert figures.tokens == 3 + 3  # three boxes and a summary token of each prompt
    assert figures.relative_error == pytest.approx(0.5)

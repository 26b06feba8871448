"""`diagnose` on small models and data: the same figures as in use, with and without a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import conceptseg as cs
from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.errors import OptionError
from conceptseg.presence.diagnosis import Diagnosis, diagnose
from conceptseg.presence.report import write_diagnosis
from conceptseg.segmenter import Segmenter
from tests.evaluation.scripted import write_coco

LEFT, RIGHT = [0, 0, 40, 48], [24, 0, 64, 48]
Make = Callable[..., Segmenter]


@pytest.fixture
def data(tmp_path: Path) -> ConceptDataset:
    """Two images, the phrases coin and star."""
    images = {"a.png": {"coin": [LEFT]}, "b.png": {"star": [LEFT, RIGHT]}}
    return open_dataset(write_coco(tmp_path / "data", images))


def collapsed(segmenter: Segmenter, shift: float = -15.0) -> Segmenter:
    """Says no to everything, and ranks as before."""
    with torch.no_grad():
        segmenter.detector.decoder.presence_head.mlp.layers[-1].bias.add_(shift)
    return segmenter


def test_presence_logits_are_those_of_segment(make_segmenter: Make, data: ConceptDataset) -> None:
    segmenter = make_segmenter()
    diagnosis = diagnose(segmenter, data)
    image = data[0]
    (answer,) = [it for it in diagnosis.student_answers if it.phrase == "coin" and it.present]
    assert answer.presence_logit == pytest.approx(
        segmenter.segment(image.path, text="coin").presence_logit, abs=1e-5
    )


def test_every_present_and_absent_pair_is_asked_once(make_segmenter: Make, data: ConceptDataset) -> None:
    diagnosis = diagnose(make_segmenter(), data, absent=["unicorn"])
    asked = [(it.phrase, it.present) for it in diagnosis.student_answers]
    assert asked == [
        ("coin", True),
        ("star", False),
        ("unicorn", False),
        ("star", True),
        ("coin", False),
        ("unicorn", False),
    ]


def test_a_collapsed_student_is_told_from_its_teacher_by_the_shift_alone(
    make_segmenter: Make, data: ConceptDataset
) -> None:
    diagnosis = diagnose(collapsed(make_segmenter()), data, make_segmenter())
    assert diagnosis.teacher is not None
    assert diagnosis.student.present_mean == pytest.approx(diagnosis.teacher.present_mean - 15, abs=1e-4)
    pairs = zip(diagnosis.student_answers, diagnosis.teacher_answers, strict=True)
    assert all(ours.best_class_logit == theirs.best_class_logit for ours, theirs in pairs)
    assert all(it.relative_error == 0 for it in diagnosis.drift.values())
    assert list(diagnosis.drift)[-5:] == [
        "exemplar tokens",
        "fusion memory",
        "decoder layer 1",
        "decoder layer 2",
        "presence feature",
    ]


def test_fewer_phrases_per_image_are_asked_on_request(make_segmenter: Make, data: ConceptDataset) -> None:
    diagnosis = diagnose(make_segmenter(), data, absent=["unicorn", "gnome", "elf"], phrases=1)
    assert [it.present for it in diagnosis.student_answers] == [True, False, True, False]


def test_the_report_holds_every_number(make_segmenter: Make, data: ConceptDataset, tmp_path: Path) -> None:
    diagnosis = diagnose(collapsed(make_segmenter()), data, make_segmenter(), threshold=0.2)
    report = write_diagnosis(diagnosis, tmp_path / "out").read_text()
    values = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert values["model"]["present_mean"] == pytest.approx(diagnosis.student.present_mean)
    assert values["drift"]["fusion memory"]["tokens"] == diagnosis.drift["fusion memory"].tokens
    assert sum(values["histograms"]["model"]["present"]) == diagnosis.student.present_pairs
    assert set(values["rule"]) == set(vars(diagnosis.rule))
    assert values["verdict"]["repair"] == diagnosis.verdict.repair
    for figure in ("presence.png", "drift.png"):
        assert (tmp_path / "out" / figure).stat().st_size > 1000 and figure in report


def test_scenes_can_be_drawn_for_the_occasion(make_segmenter: Make, tmp_path: Path) -> None:
    diagnosis = diagnose(make_segmenter(), "scenes", limit=1, phrases=2)
    assert (diagnosis.setup["dataset"], diagnosis.setup["split"]) == ("scenes", "held_out")
    assert (diagnosis.student.present_pairs, diagnosis.student.absent_pairs) == (2, 2)
    assert diagnosis.teacher is None and diagnosis.drift == {}
    write_diagnosis(diagnosis, tmp_path)
    assert not (tmp_path / "drift.png").exists()


def test_the_public_name_is_the_function(tmp_path: Path) -> None:
    assert cs.presence.diagnose is diagnose
    assert cs.presence.Diagnosis is Diagnosis


@pytest.mark.parametrize("options", [{"threshold": 2}, {"phrases": 0}])
def test_impossible_options_are_refused(
    make_segmenter: Make, data: ConceptDataset, options: dict[str, float]
) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        diagnose(make_segmenter(), data, **options)  # type: ignore[arg-type]

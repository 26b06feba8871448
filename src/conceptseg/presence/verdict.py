"""What broke, and which repair fits: a rule over the figures of a diagnosis.

A fault in how the model is read or run (`faults.py`) comes first: it looks like a collapse and is none. Then,
read from top to bottom, the first line that holds decides:

1. nothing to rank: no present or no absent pairs were asked             -> undecided
2. class scores lost: objects are not found even without presence        -> distil
3. presence lost (AUROC), and the memory it reads is far from the teacher's -> distil
4. presence lost, though class scores are good                           -> finetune
5. presence kept, but its level is wrong: true detections lost to it, absent phrases found, or
   probabilities off                                                     -> calibrate
6. nothing of that                                                       -> none

"Lost" is meant against the teacher where there is one, and against fixed bars where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conceptseg.errors import ConfigError
from conceptseg.presence.faults import Fault
from conceptseg.presence.features import FeatureDrift
from conceptseg.presence.pair_outcomes import PresenceFigures

REPAIRS = ("none", "fault", "calibrate", "finetune", "distil", "undecided")


@dataclass(frozen=True)
class VerdictRule:
    """The thresholds; shares and AUROC from 0 to 1."""

    least_auroc: float = 0.8  # presence AUROC, without a teacher
    # With a teacher: how much less than its AUROC is still kept. Of students that had lost 0.08 of it a
    # calibration was all the same the best repair (docs/claims.md, F7).
    auroc_loss: float = 0.15
    least_found: float = 0.25  # share of objects found by class score alone, without a teacher
    found_share: float = 0.7  # with a teacher: share of what it finds by class score alone
    far_cosine: float = 0.5  # memory further from the teacher's than this is another memory
    # Even a good presence takes detections whose class score just passes, so that none lost is not the bar.
    most_lost: float = 0.4  # share of true detections that presence may take, without a teacher
    # With one: more than the teacher loses. Students that lost 0.08 more won 4 and 5 points of cgF1 (F7 too).
    more_lost: float = 0.05
    most_absent: float = 0.25  # share of absent pairs with detections, without a teacher
    more_absent: float = 0.1  # with one: more than the teacher has
    most_ece: float = 0.15  # expected calibration error of presence, without a teacher
    more_ece: float = 0.1  # with one: more than the teacher's

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ConfigError(f"verdict.{name} is {value}; give a number from 0 to 1")


@dataclass(frozen=True)
class Verdict:
    """One of `REPAIRS`, and the figures it rests on, in words."""

    repair: str
    reason: str


def decide(
    student: PresenceFigures,
    teacher: PresenceFigures | None,
    drift: Mapping[str, FeatureDrift],
    rule: VerdictRule,
    faults: Sequence[Fault] = (),
) -> Verdict:
    """Apply the rule.

    Args:
        student: figures of the model that is judged.
        teacher: those of its teacher on the same pairs; None without one.
        drift: component -> how far it lies from the teacher's; empty without one.
        rule: the thresholds.
        faults: in how the model is read or run. Where figures say that something is wrong, these are the
            verdict; where nothing is, they are still named.
    """
    verdict = _by_figures(student, teacher, drift, rule)
    if not faults:
        return verdict
    named = " ".join(f"{fault.kind}: {fault.finding}." for fault in faults)
    if verdict.repair == "none":
        return Verdict("none", f"{verdict.reason} Yet {named}")
    return Verdict("fault", f"{named} Until that is mended, figures say nothing about presence.")


def _by_figures(
    student: PresenceFigures,
    teacher: PresenceFigures | None,
    drift: Mapping[str, FeatureDrift],
    rule: VerdictRule,
) -> Verdict:
    if not student.present_pairs or not student.absent_pairs:
        kind = "present" if not student.present_pairs else "absent"
        return Verdict("undecided", f"no {kind} pair was asked, so presence cannot be ranked.")
    auroc_bar = rule.least_auroc if teacher is None else teacher.auroc - rule.auroc_loss
    found_bar = rule.least_found if teacher is None else rule.found_share * teacher.found_by_class
    auroc = f"presence AUROC {_f(student.auroc)} (bar {_f(auroc_bar)})"
    by_class = f"{_p(student.found_by_class)} of objects found by class score alone (bar {_p(found_bar)})"
    memory = drift.get("fusion memory")
    far = memory is not None and memory.cosine is not None and memory.cosine < rule.far_cosine
    distance = (
        f"memory cosine {_f(memory.cosine)}" if memory is not None and memory.cosine is not None else ""
    )

    if student.found_by_class < found_bar:
        parts = [by_class, *([distance] if distance else []), auroc]
        return Verdict("distil", f"objects are missed even when presence is ignored: {'; '.join(parts)}.")
    if student.auroc < auroc_bar and far:
        return Verdict("distil", f"presence is lost and reads another memory: {auroc}; {distance}.")
    if student.auroc < auroc_bar:
        return Verdict(
            "finetune", f"presence no longer ranks, but class scores are good: {auroc}; {by_class}."
        )
    wrong = _wrong_level(student, teacher, rule)
    if wrong:
        return Verdict(
            "calibrate", f"presence still ranks ({auroc}), at the wrong level: {'; '.join(wrong)}."
        )
    return Verdict("none", f"nothing is wrong: {auroc}; {by_class}; {_p(student.lost_to_presence)} of true "
                   f"detections lost to presence; {_p(student.absent_with_detections)} of absent pairs with "
                   f"detections; calibration error {_f(student.ece)}.")  # fmt: skip


def _wrong_level(student: PresenceFigures, teacher: PresenceFigures | None, rule: VerdictRule) -> list[str]:
    """What says that presence lies too low or too high."""
    lost_bar, absent_bar, ece_bar = rule.most_lost, rule.most_absent, rule.most_ece
    if teacher is not None:
        lost_bar = _or_zero(teacher.lost_to_presence) + rule.more_lost
        absent_bar = teacher.absent_with_detections + rule.more_absent
        ece_bar = teacher.ece + rule.more_ece
    found = []
    if student.lost_to_presence > lost_bar:
        found.append(
            f"{_p(student.lost_to_presence)} of true detections lost to presence alone (bar {_p(lost_bar)})"
        )
    if student.absent_with_detections > absent_bar:
        found.append(
            f"{_p(student.absent_with_detections)} of absent pairs have detections (bar {_p(absent_bar)})"
        )
    if student.ece > ece_bar:
        found.append(f"calibration error {_f(student.ece)} (bar {_f(ece_bar)})")
    return found


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _f(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}%"

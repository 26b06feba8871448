"""F3, F5, F6, F7: what the table of students says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from conceptseg.evaluation.cgf1 import cgf1_of
from conceptseg.evidence.measurement import Line, Settled, Verdict, Word
from conceptseg.evidence.students import STUDENT, TABLE, TEACHER
from conceptseg.presence.features import FeatureDrift
from conceptseg.presence.pair_outcomes import PresenceFigures
from conceptseg.presence.verdict import VerdictRule, decide
from conceptseg.study.intervals import Array, Bootstrap, Estimate, Statistic, points
from conceptseg.study.table import Table

FINETUNE = "finetune"
CLAIMED_ORDER = ("ignore", FINETUNE, "distil", "offset")
LATER_PARTS = "later-parts"  # the repair that leaves the student's features as they are
# What each word of a diagnosis asks for, among the repairs of the studies, where there is a teacher.
ADVICE = {"none": STUDENT, "calibrate": "calibrate-no-labels", "finetune": FINETUNE, "distil": "distil"}
CHOSE = ("vision-100", "vision-400")  # students whose results the rule follows
NOW, BEFORE = "", ", by the rule before"
RULES = {
    NOW: VerdictRule(),
    BEFORE: VerdictRule(auroc_loss=0.05, more_lost=0.15),
    ", by its first revision": VerdictRule(more_lost=0.15),  # which vision-100 chose, and vision-400 refuted
}
MISSED = "points of cgF1 that the advice misses"
RIGHT, RIGHT_NEW, BAR = "advice that is right", "advice that is right, of students that did not choose", 0.8
BEYOND, BACK = "lost to presence beyond the teacher", "of it back with later parts trained"
CLOSE = 0.01  # of cgF1: a repair within it of the best one is as good


class StudentClaim(Settled):
    """A claim that the table of students settles; n is pairs with the phrase there, and as many without."""

    photographs = False
    changed = "encoders of the student, as its name says, and then its repair"

    @property
    def table(self) -> str:
        return TABLE

    @property
    def command(self) -> str:
        return "python benchmarks/students.py run"

    def examples(self, table: Table) -> int:
        pairs = [flag for row in table.rows for flag in row[TEACHER]["present"]]
        return min(sum(pairs), len(pairs) - sum(pairs))


def names_of(table: Table) -> list[str]:
    return list(dict.fromkeys(table.column("student")))


def draws_of(table: Table) -> Bootstrap:
    return Bootstrap(table.column("scene"), table.column("seed"))


def counts_of(table: Table, part: str) -> Array:
    """(examples, C) counts of cgF1."""
    return np.array([row[part]["counts"] for row in table.rows], np.float64)


def cgf1(table: Table, part: str) -> Statistic:
    counts = counts_of(table, part)
    return lambda weights: cgf1_of(weights @ counts)


def gain(table: Table, part: str, over: str) -> Statistic:
    """cgF1 of one model less that of another."""
    return less(cgf1(table, part), cgf1(table, over))


def less(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def averaged(table: Table, statistic: Callable[[Table], Statistic]) -> Statistic:
    """The mean over students, each of which counts the same."""
    names = np.array(table.column("student"))
    each = [(names == name, statistic(table.where(student=name))) for name in names_of(table)]
    return lambda weights: np.mean([one(weights[:, rows]) for rows, one in each], 0)


def summed(table: Table, part: str, name: str) -> list[float]:
    """Sum over the pairs of each scene."""
    return [float(sum(row[part][name])) for row in table.rows]


def share_lost(table: Table, part: str) -> Statistic:
    """Of the objects that are found by class score alone, those that presence takes."""
    by_class, found = (np.array(summed(table, part, name)) for name in ("found_by_class", "found"))
    return lambda weights: 1 - (weights @ found) / (weights @ by_class)


def logits(table: Table, part: str, present: bool) -> list[float | None]:
    """Of each scene, the mean presence logit of the phrases that are there, or of those that are not."""
    values = []
    for row in table.rows:
        pairs = zip(row[part]["present"], row[part]["presence_logit"], strict=True)
        chosen = [logit for flag, logit in pairs if flag == present]
        values.append(float(np.mean(chosen)) if chosen else None)
    return values


class PresenceCollapse(StudentClaim):
    """F3. Control: the teacher; and the text encoder in place of the vision encoder."""

    claim = "F3"

    def lines(self, table: Table) -> list[Line]:
        lines = []
        for name in names_of(table):
            some, control = table.where(student=name), not name.startswith("vision")
            draws, group = draws_of(some), "true detections that presence takes"
            taken = {part: share_lost(some, part) for part in (TEACHER, STUDENT, LATER_PARTS)}
            by_class = [summed(some, part, "found_by_class") for part in (STUDENT, TEACHER)]
            estimates = {
                "found by class score alone, of the teacher's": draws.ratio(*by_class),
                "lost to presence": draws.of(taken[STUDENT]),
                BEYOND: draws.of(less(taken[STUDENT], taken[TEACHER])),
                BACK: draws.of(less(taken[STUDENT], taken[LATER_PARTS])),
            }
            for what, it in estimates.items():
                shown = group if what in (BEYOND, BACK) else ""
                lines.append(Line(f"{name}: {what}", it, ".1%", control, shown))
            for part, when in ((STUDENT, ""), (LATER_PARTS, ", later parts trained")):
                logit = draws.difference(logits(some, part, True), logits(some, TEACHER, True))
                worse = points(draws.of(less(cgf1(some, part), cgf1(some, TEACHER))))
                lines += [
                    Line(f"{name}: logit if present, less the teacher's{when}", logit, ".2f", control),
                    Line(f"{name}: cgF1, less the teacher's{when}", worse, ".1f", control),
                ]
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        students = dict.fromkeys(name.split(":")[0] for name in lines if name.startswith("vision"))
        effect = tuple(f"{name}: {what}" for name in students for what in (BEYOND, BACK))
        surely = {name: lines[f"{name}: {BEYOND}"].estimate for name in students}
        collapsed = [name for name, it in surely.items() if it.above()]
        back = {name: lines[f"{name}: {BACK}"].estimate for name in collapsed}
        if not collapsed:
            return Verdict("refuted", "a student with another trunk loses no more to presence", effect)
        if not any(it.above() for it in back.values()):
            return Verdict(
                "refuted", "training what comes after, on the same features, brings none back", effect
            )
        if any(not it.above(surely[name].value / 2) for name, it in back.items()):
            return Verdict(
                "depends",
                "on more than that: another trunk alone loses detections to presence, and what comes after "
                "brings some of them back once it has seen these features, but in so few steps not half",
                effect,
            )
        return Verdict(
            "confirmed",
            "another trunk alone loses detections to presence, and what comes after brings most of them back "
            "once it has seen these features",
            effect,
        )


class RepairOrder(StudentClaim):
    """F5. Control: the student as it is."""

    claim = "F5"

    def lines(self, table: Table) -> list[Line]:
        sweep = table.setup.get("sweep", ())
        others = ("student", "seed", "scene", TEACHER, STUDENT, *sweep)
        repairs = [name for name in table.rows[0] if name not in others]
        draws = draws_of(table)
        missing = draws.of(averaged(table, partial(gain, part=TEACHER, over=STUDENT)))
        lines = [Line("lost to the teacher, in points of cgF1", points(missing), ".1f", True)]
        for repair in repairs:
            found = draws.of(averaged(table, partial(gain, part=repair, over=STUDENT)))
            lines.append(Line(f"{repair}: gain in cgF1", points(found), ".1f", group="gain in cgF1, points"))
        for part in (TEACHER, STUDENT, *repairs):
            answered = draws.of(averaged(table, partial(_answered, part=part)))
            lines.append(
                Line(f"{part}: absent phrases answered", answered, ".1%", part in (TEACHER, STUDENT))
            )
        for name in names_of(table):
            some = table.where(student=name)
            own = draws_of(some)
            for repair in repairs:
                found = own.of(gain(some, repair, STUDENT))
                lines.append(Line(f"{name}, {repair}: gain in cgF1", points(found), ".1f"))
        for first, second in zip(CLAIMED_ORDER, CLAIMED_ORDER[1:], strict=False):
            found = draws.of(averaged(table, partial(gain, part=first, over=second)))
            lines.append(Line(f"{first} less {second}, cgF1", points(found), ".1f"))
        for part in repairs:
            seconds = [float(about["seconds"][part] or 0) for about in table.setup["students"]]
            mean = float(np.mean(seconds))
            estimate = Estimate(mean, min(seconds), max(seconds), len(seconds), len(seconds))
            lines.append(Line(f"{part}: processor seconds, from least to most", estimate, ".0f"))
        for part in sweep:
            lines += _swept(table, part)
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        pairs = list(zip(CLAIMED_ORDER, CLAIMED_ORDER[1:], strict=False))
        effect = tuple(f"{repair}: gain in cgF1" for repair in CLAIMED_ORDER)
        wrong = [f"{b} before {a}" for a, b in pairs if lines[f"{a} less {b}, cgF1"].estimate.below()]
        if wrong:
            return Verdict("refuted", f"by what they bring, {' and '.join(wrong)}", effect)
        if all(lines[f"{a} less {b}, cgF1"].estimate.above() for a, b in pairs):
            return Verdict("confirmed", "each brings more than the next", effect)
        return Verdict("depends", "no two neighbours are surely in the other order", effect)


def _swept(table: Table, part: str) -> list[Line]:
    """Fine-tuning at other settings, on the students that were tuned so."""
    some = Table(table.setup, [row for row in table.rows if row[part] is not None])
    draws = draws_of(some)
    lines = []
    for what, over in (
        ("gain in cgF1", STUDENT),
        ("less finetune, cgF1", FINETUNE),
        ("less offset, cgF1", "offset"),
    ):
        found = draws.of(averaged(some, partial(gain, part=part, over=over)))
        lines.append(Line(f"{part}: {what}", points(found), ".1f"))
    lines.append(
        Line(
            f"{part}: absent phrases answered", draws.of(averaged(some, partial(_answered, part=part))), ".1%"
        )
    )
    steps = [
        about["best_step"][part] for about in table.setup["students"] if part in about.get("best_step", {})
    ]
    if steps:
        found = Estimate(float(np.mean(steps)), min(steps), max(steps), len(steps), len(steps))
        lines.append(Line(f"{part}: step that was kept, from least to most", found, ".0f"))
    return lines


class ForeignOffset(StudentClaim):
    """F6. Offsets are fitted to labels; a pair is right if presence tells by one half whether it is there."""

    claim = "F6"
    changed = "the offset of the presence logit: the student's own, or that of another one"

    def lines(self, table: Table) -> list[Line]:
        offsets = {(it["student"], it["seed"]): float(it["offset"]) for it in table.setup["students"]}
        draws = draws_of(table)
        none, own, foreign = [], [], []
        for row in table.rows:
            mine = (row["student"], row["seed"])
            pairs = row[STUDENT]["present"], row[STUDENT]["presence_logit"]
            others = [value for (name, _), value in offsets.items() if name != mine[0]]
            none.append(_right(*pairs, 0.0))
            own.append(_right(*pairs, offsets[mine]))
            foreign.append(np.mean([_right(*pairs, value) for value in others]) if others else None)
        values = [float(value) for value in offsets.values()]
        spread = Estimate(float(np.std(values)), min(values), max(values), len(values), len(values))
        group = "balanced share of right pairs"
        return [
            Line("offsets: standard deviation, from least to most", spread),
            Line("right without an offset", draws.mean(none), ".1%", True, group),
            Line("right with its own offset", draws.mean(own), ".1%", group=group),
            Line("right with another student's", draws.mean(foreign), ".1%", group=group),
            Line("its own less none", draws.difference(own, none), ".1%"),
            Line("own less another's", draws.difference(own, foreign), ".1%"),
            Line("another's less none", draws.difference(foreign, none), ".1%"),
        ]

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = ("own less another's", "another's less none")
        worse, still = (lines[name].estimate for name in effect)
        if not worse.examples:
            return Verdict("cannot be tested here", "there is one student alone", effect)
        if not worse.above():
            spread = lines["offsets: standard deviation, from least to most"].estimate
            these = f"among these students, whose offsets lie from {spread.low:.2f} to {spread.high:.2f}"
            return Verdict("refuted", f"{these}, another's does as well as its own", effect)
        if still.above():
            return Verdict("depends", "its own is better, but another student's still helps", effect)
        return Verdict("confirmed", "another student's offset is worse than its own, and no help", effect)


class VerdictChoice(StudentClaim):
    """F7. Advice is right if no other brings over `CLOSE` more. Control: the rules as they were before."""

    claim = "F7"
    least = 6  # students, of all seeds
    changed = "nothing: what the diagnosis of each student recommends, against what every repair brought"

    def lines(self, table: Table) -> list[Line]:
        lines = []
        right: dict[str, list[float]] = {when: [] for when in RULES}
        for about in table.setup["students"]:
            name, seed = about["student"], about["seed"]
            some = table.where(student=name, seed=seed)
            values = {part: float(cgf1(some, part)(np.ones((1, len(some))))[0]) for part in ADVICE.values()}
            best = max(values, key=lambda part: values[part])
            for when, rule in RULES.items():
                word = recommended(about, rule)
                chosen = ADVICE.get(word, STUDENT)
                right[when].append(float(values[best] - values[chosen] <= CLOSE))
                found = points(Bootstrap(some.column("scene")).of(gain(some, chosen, best)))
                what = f"{name}, seed {seed}: {word}{when} less the best ({best})"
                lines.append(Line(what, found, ".1f", when != NOW, MISSED if when in (NOW, BEFORE) else ""))
        names = [about["student"] for about in table.setup["students"]]
        units = Bootstrap([f"{about['student']} {about['seed']}" for about in table.setup["students"]])
        new = [value if name not in CHOSE else None for name, value in zip(names, right[NOW], strict=True)]
        return [
            Line(RIGHT, units.mean(right[NOW]), ".0%"),
            Line(RIGHT_NEW, units.mean(new), ".0%"),
            *(Line(f"{RIGHT}{when}", units.mean(right[when]), ".0%", True) for when in RULES if when != NOW),
            *lines,
        ]

    def examples(self, table: Table) -> int:
        return len(table.setup["students"])

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = (RIGHT, RIGHT_NEW, f"{RIGHT}{BEFORE}")
        every, new = (lines[name].estimate for name in effect[:2])
        good = every.value >= BAR and (not new.examples or new.value >= BAR)
        word: Word = "confirmed" if good else "refuted"
        others = f"{new.examples} of which did not choose the rule"
        why = f"of {every.examples} students, {others}; the bar is {BAR:.0%}"
        return Verdict(word, why, effect)


def recommended(about: Mapping[str, Any], rule: VerdictRule) -> str:
    """What a rule says of the figures of a student's diagnosis."""
    student, teacher = (PresenceFigures.from_dict(about["diagnosis"][it]) for it in ("model", "teacher"))
    memory = FeatureDrift(0, 0, 0, about["memory_cosine"], None, None, None, np.nan, np.nan)
    return decide(student, teacher, {"fusion memory": memory}, rule).repair


def _answered(table: Table, part: str) -> Statistic:
    absent, answered = [], []
    for row in table.rows:
        pairs = list(zip(row[part]["present"], row[part]["detections"], strict=True))
        absent.append(float(sum(not flag for flag, _ in pairs)))
        answered.append(float(sum(not flag and count > 0 for flag, count in pairs)))
    return lambda weights: (weights @ np.array(answered)) / (weights @ np.array(absent))


def _right(present: Sequence[bool], presence_logits: Sequence[float], offset: float) -> float | None:
    """Mean of the shares that are right among present and among absent phrases."""
    said = expit(np.array(presence_logits) + offset) > 0.5
    there = np.array(present, bool)
    if there.all() or not there.any():
        return None
    return float((said[there].mean() + (~said[~there]).mean()) / 2)

"""From the tables of examples to the tables and figures that people read; nothing here is typed by hand.

RESULTS/F2.md                    every line of a claim, on scenes and on photographs, with n
IMAGES/evidence-F2.png           its lines with intervals
docs/claims.md                   claim, verdict, effect, n, command; between the two markers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

import numpy as np

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import DataError
from conceptseg.evidence.claims import EXEMPLAR_GAP, FUSION_AND_PRESENCE, SETTLED, Claim
from conceptseg.evidence.measurement import Line, Settled, Verdict
from conceptseg.evidence.pictures import DrawnScenes, Photographs
from conceptseg.report import BLUE, GREEN, GREY, can_draw, label_axes, markdown_table, save_chart
from conceptseg.study.intervals import Estimate
from conceptseg.study.table import Table

SOURCES = (DrawnScenes.name, Photographs.name)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PICTURED = "The lines with their intervals"
NOT_YET = "not yet measured on these weights"
COLOURS = {DrawnScenes.name: BLUE, Photographs.name: GREEN}


@dataclass(frozen=True)
class Outcome:
    """One claim on one kind of pictures; `verdict` is None where there are too few examples."""

    table: Table
    lines: dict[str, Line]
    examples: int
    verdict: Verdict | None


def write_report(results: Path, images: Path, claims: Path, weights: str | None) -> list[Path]:
    """Write everything that the tables in `results` say.

    Args:
        results: folder of the tables; reports of claims are written beside them.
        images: folder of the figures.
        claims: the page with the two markers, between which the claims are written.
        weights: digest of the weights that the claims are about; tables of others are left out. None: any.

    Returns:
        What was written.

    Raises:
        DataError: the page lacks its markers, or tables are of several models.
    """
    settled = {claim: read_results(results, it, weights) for claim, it in SETTLED.items()}
    found = {str(one.table.setup["weights"]) for it in settled.values() for one in it.values()}
    if len(found) > 1:
        raise DataError(f"{results} holds tables of several models ({', '.join(sorted(found))}); keep one")
    written = []
    for claim, by_source in settled.items():
        if by_source:
            pictures = draw_pictures(claim, by_source, images) if can_draw() else []
            written += [*pictures, results / f"{claim}.md"]
            write_text(written[-1], claim_report(SETTLED[claim], by_source, pictures, results))
    page = claims.read_text(encoding="utf-8") if claims.is_file() else ""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise DataError(f"{claims} needs the lines {BEGIN} and {END}, between which the claims are written")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    write_text(claims, f"{before}{BEGIN}\n{claims_table(settled)}\n{END}{after}")
    return [*written, claims]


def read_results(results: Path, measurement: Settled, weights: str | None) -> dict[str, Outcome]:
    """Source -> what is settled of a claim, of the tables there are on these weights."""
    found = {}
    for source in SOURCES:
        path = results / f"{measurement.table}-{source}.json"
        if path.is_file():
            table = Table.load(path)
            if len(table) and weights in (None, table.setup.get("weights")):
                outcome = settle(measurement, table)
                if outcome is not None:
                    found[source] = outcome
    return found


def settle(measurement: Settled, table: Table) -> Outcome | None:
    """Lines and, with enough examples, the verdict; None where the table says nothing of the claim yet."""
    lines = {line.name: line for line in measurement.lines(table)}
    if not lines:
        return None
    examples = measurement.examples(table)
    enough = examples >= measurement.least
    return Outcome(table, lines, examples, measurement.verdict(lines) if enough else None)


def claims_table(settled: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Both analyses, claim by claim."""
    parts = []
    for title, claims in (("Fusion and presence", FUSION_AND_PRESENCE), ("The exemplar gap", EXEMPLAR_GAP)):
        rows = [row for claim in claims for row in _claim_rows(claim, settled.get(claim.number, {}))]
        headings = ["", "claim", "pictures", "verdict", "effect, with 95% interval", "n", "command"]
        parts.append(f"\n## {title}\n\n{markdown_table(headings, rows, words=7)}\n")
    of = {
        (str(s.table.setup["model"]), str(s.table.setup["weights"]), int(s.table.setup["resolution"]))
        for it in settled.values()
        for s in it.values()
    }
    said = [f"`{model}`, weights `{weights}`, at {side} pixels." for model, weights, side in sorted(of)]
    return ("\n".join(said) + "\n" + "".join(parts)).strip()


def claim_report(
    measurement: Settled, by_source: Mapping[str, Outcome], pictures: Sequence[Path], folder: Path
) -> str:
    """One claim: verdicts, the pictures, and every line.

    Args:
        measurement: of the claim.
        by_source: what was measured.
        pictures: its figures; none where none could be drawn.
        folder: of the report, for the links to them.
    """
    claim = next(it for it in (*FUSION_AND_PRESENCE, *EXEMPLAR_GAP) if it.number == measurement.claim)
    setup = next(iter(by_source.values())).table.setup
    names = list(dict.fromkeys(name for one in by_source.values() for name in one.lines))
    rows = []
    for name in names:
        line = next(one.lines[name] for one in by_source.values() if name in one.lines)
        cells = [name + (" *(control)*" if line.control else "")]
        for one in by_source.values():
            cells += _cells(one.lines.get(name))
        rows.append(cells)
    headings = ["measured"]
    for source in by_source:
        headings += [source, "95% interval", "n"]
    verdicts = [
        f"- **{source}: {_verdict(one, measurement)}**{_why(one)}" for source, one in by_source.items()
    ]
    text = [
        f"# {claim.number}: {claim.says}",
        f"Changed: {measurement.changed}. {_of(setup)} Intervals are bootstrapped over pictures"
        + (
            " and seeds"
            if any(line.estimate.seeds > 1 for one in by_source.values() for line in one.lines.values())
            else ""
        )
        + "; n is examples (pictures).",
        "\n".join(verdicts),
        *(
            f"![{words}]({relpath(it, folder)})"
            for it, words in zip(pictures, (PICTURED, measurement.parts), strict=False)
        ),
        markdown_table(headings, rows),
        f"`{measurement.command}`, then `python benchmarks/evidence.py report`.",
    ]
    return "\n\n".join(text) + "\n"


def draw_pictures(claim: str, by_source: Mapping[str, Outcome], images: Path) -> list[Path]:
    """The lines of a claim; and what only a figure can say of it, where there is such."""
    pictures = [images / f"evidence-{claim}.png"]
    draw_claim(by_source, pictures[0])
    parts = images / f"evidence-{claim}-parts.png"
    if any(SETTLED[claim].draw_parts(one.table, parts) for one in by_source.values()):
        pictures.append(parts)
    return pictures


def draw_claim(by_source: Mapping[str, Outcome], path: Path) -> None:
    """The grouped lines, each with its interval; controls are hollow."""
    from matplotlib.figure import Figure

    every = [line for one in by_source.values() for line in one.lines.values() if line.group]
    groups = list(dict.fromkeys(line.group for line in every))
    names = {
        group: list(dict.fromkeys(line.name for line in every if line.group == group)) for group in groups
    }
    heights = [0.8 + 0.24 * len(names[group]) for group in groups]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        places = {name: -i for i, name in enumerate(names[group])}
        for number, (source, one) in enumerate(by_source.items()):
            lines = [
                line
                for line in one.lines.values()
                if line.group == group and np.isfinite(line.estimate.value)
            ]
            shift = 0.16 * (number - (len(by_source) - 1) / 2)
            for hollow in (False, True):
                drawn = [line for line in lines if line.control == hollow]
                values = np.array([line.estimate.value for line in drawn])
                low, high = (
                    np.array([getattr(line.estimate, end) for line in drawn]) for end in ("low", "high")
                )
                axes.errorbar(
                    values,
                    [places[line.name] - shift for line in drawn],
                    xerr=np.abs(np.stack((values - low, high - values))) if len(drawn) else None,
                    fmt="o",
                    markersize=4,
                    capsize=2,
                    color=COLOURS[source],
                    markerfacecolor="white" if hollow else COLOURS[source],
                    label=f"{source}{', control' if hollow else ''}" if len(drawn) else None,
                )
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(list(places.values()), list(places), fontsize=8)
        label_axes(axes, group, "", "")
    save_chart(figure, path)


def shown(estimate: Estimate, style: str) -> str:
    """A figure with its interval: 0.31 [0.28, 0.34]."""
    return f"{_number(estimate.value, style)} {_interval(estimate, style)}"


def _claim_rows(claim: Claim, by_source: Mapping[str, Outcome]) -> Sequence[Sequence[str]]:
    if not by_source:
        how = f"`{SETTLED[claim.number].command}`" if claim.number in SETTLED else ""
        return [[claim.number, claim.says, "", NOT_YET, "", "", how]]
    measurement = SETTLED[claim.number]
    report = f"[{claim.number}](../benchmarks/results/evidence/{claim.number}.md)"
    rows = []
    for number, (source, one) in enumerate(by_source.items()):
        # A verdict names the lines that carry it; they are shown without one, too.
        carried = (one.verdict or measurement.verdict(one.lines)).effect
        effects = "; ".join(
            f"{name}: {shown(one.lines[name].estimate, one.lines[name].style)}" for name in carried
        )
        head = ["", "", source] if number else [report, claim.says, source]
        rows.append(
            [
                *head,
                f"**{_verdict(one, measurement)}**{_why(one)}",
                effects,
                str(one.examples),
                f"`{measurement.command}`",
            ]
        )
    return rows


def _verdict(one: Outcome, measurement: Settled) -> str:
    return one.verdict.word if one.verdict else f"no verdict: n is below {measurement.least}"


def _why(one: Outcome) -> str:
    return f": {one.verdict.why}" if one.verdict else ""


def _of(setup: Mapping[str, object]) -> str:
    side, kind = setup["resolution"], setup["dtype"]
    return f"Model `{setup['model']}`, weights `{setup['weights']}`, {side} pixels, {kind}."


def _cells(line: Line | None) -> list[str]:
    if line is None or not line.estimate.examples:
        return ["-", "-", "0"]
    it = line.estimate
    n = f"{it.examples} ({it.scenes})" + (f", {it.seeds} seeds" if it.seeds > 1 else "")
    return [_number(it.value, line.style), _interval(it, line.style), n]


def _interval(estimate: Estimate, style: str) -> str:
    return f"[{_number(estimate.low, style)}, {_number(estimate.high, style)}]"


def _number(value: float, style: str) -> str:
    return "-" if not np.isfinite(value) else format(value, style)

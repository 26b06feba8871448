"""What was measured, as a table for people and as JSON."""

from __future__ import annotations

import platform
from pathlib import Path

from conceptseg.benchmark.programs import STAGES
from conceptseg.benchmark.run import Benchmark
from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.report import markdown_table, report_json


def save_report(result: Benchmark, folder: Path, command: str) -> Path:
    """Write benchmark.json and benchmark.md; gives the path of the table."""
    machine = {
        "machine": platform.machine(),
        "processor": processor_name(),
        "python": platform.python_version(),
    }
    values = {"command": command, **machine, **result.to_dict()}
    write_text(folder / "benchmark.json", report_json(values))
    path = folder / "benchmark.md"
    write_text(path, markdown(result, command))
    return path


def rows(result: Benchmark) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row per stage and per number of phrases."""
    names = list(result.programs)
    headings = ["what", *names]
    if len(names) == 2:
        headings.append("ratio")
    if result.flops:
        headings += ["GFLOP", "share of peak"]
    table = []
    for stage in STAGES:
        table.append([stage, *_times([result.programs[n].stages.get(stage) for n in names])])
        if result.flops:
            seconds = result.programs[names[0]].stages.get(stage)
            table[-1] += _work(result.flops.get(stage), seconds, result.peak_flops)
    for count in result.programs[names[0]].end_to_end:
        what = f"whole, {count} phrase{'s' * (count != 1)}"
        table.append([what, *_times([result.programs[n].end_to_end[count] for n in names])])
        if result.flops:
            # Counted for one phrase; what further ones share was counted with it.
            total = sum(result.flops.values()) if count == 1 else None
            table[-1] += _work(total, result.programs[names[0]].end_to_end[count], result.peak_flops)
    for kind in result.programs[names[0]].memory:
        found = [result.programs[n].memory[kind] for n in names]
        ratio = [f"{found[0] / found[1]:.2f}"] if len(found) == 2 else []
        table.append([f"peak memory, {kind}", *(f"{value:,.0f} MiB" for value in found), *ratio])
        if result.flops:
            table[-1] += ["", ""]
    return headings, table


def markdown(result: Benchmark, command: str) -> str:
    """The page that is kept beside the JSON."""
    headings, table = rows(result)
    lines = [
        f"# {result.model}, {result.resolution} px",
        "",
        f"`{command}`",
        "",
        f"{processor_name()}, {result.threads} thread(s), {result.device}, {result.dtype}; medians of "
        f"{result.repeats}, one phrase on `{result.image}` unless said otherwise. Matrix products reach "
        f"{result.peak_flops / 1e9:,.0f} GFLOP/s here.",
        "",
        markdown_table(headings, table),
        "",
    ]
    if result.agreement:
        a = result.agreement
        lines += [
            f"Agreement: class logits {a['class_logits']:.1e} and presence {a['presence_logits']:.1e} of the "
            f"largest value, boxes {a['boxes_px']:.2g} px, mask IoU at least {a['mask_iou_least']:.4f}.",
            "",
        ]
    return "\n".join(lines)


def processor_name() -> str:
    """As the operating system calls it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _times(seconds: list[float | None]) -> list[str]:
    shown = ["-" if s is None else f"{1000 * s:,.1f} ms" for s in seconds]
    if len(seconds) == 2:
        both = seconds[0] is not None and seconds[1] is not None and seconds[1] > 0
        shown.append(f"{seconds[0] / seconds[1]:.2f}" if both else "-")  # type: ignore[operator]
    return shown


def _work(flops: int | None, seconds: float | None, peak_flops: float) -> list[str]:
    """GFLOP of a stage, and which share of the machine's peak our time makes of it."""
    if not flops or not seconds:
        return ["", ""]
    return [f"{flops / 1e9:,.2f}", f"{flops / seconds / peak_flops:.0%}"]

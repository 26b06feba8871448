"""The results of `official_size.py` as tables for people; parts that were not measured are left out."""

from __future__ import annotations

from typing import Any

INTRODUCTION = """\
# SAM 3 with random weights, at {title}

{processor}, {threads} threads on {cores} cores, {memory_gib} GiB, float32. Python {python}, torch {torch},
transformers {transformers}, safetensors {safetensors}, conceptseg {conceptseg}.

Written by `python benchmarks/official_size.py all FOLDER{option}`.
"""

PARITY = """\
## Against transformers

From a photograph, a phrase and boxes to every raw output, through each side's own processor. The largest
difference of an output is divided by its largest value; allowed is {allowed:.0e}. The last columns say how
large an output is and how much it varies: had it one value everywhere, its equality would prove little.
"""

LOADING = """\
## Loading

Medians of {repeats}, each in a fresh process, in turn, files in the page cache. The peak is the resident
memory of the whole process; what was resident before loading, Python, torch and the program, is taken off
before it is divided by the size of the weights. Pages of memory-mapped files count once they are read, hence
the last columns, after every weight was read. Here the tokenizer is read too, which `from_pretrained` of a
model does not do.
"""

SEGMENT = """\
## One photograph

`conceptseg segment coins.png --text "silver coin"` on the Hugging Face folder: {seconds:.1f} s from start to
end, peak memory {peak:.0f} MiB. Its stages, in another process; the first answer also brings the weights into
memory. With random weights, what is found ({found}) means nothing.
"""


def report(results: dict[str, Any]) -> str:
    """Markdown of whatever parts the results have."""
    full = results["size"] == "full"
    parts = [
        INTRODUCTION.format(
            title="its released size" if full else f"{results['size']} size, to try the commands",
            option="" if full else f" --size {results['size']}",
            **results["machine"],
        )
    ]
    if "write" in results:
        parts.append(f"{results['write']['parameters']:,} values, {results['write']['gib']:.2f} GiB.\n")
    if "parity" in results:
        parts += [PARITY.format(allowed=results["parity"]["allowed_relative"]), _parity(results["parity"])]
    if "load" in results:
        parts += [LOADING.format(repeats=results["load"]["repeats"]), _loading(results["load"]["ways"])]
    if "segment" in results:
        command, stages = results["segment"]["command"], results["segment"]["stages"]
        parts.append(
            SEGMENT.format(seconds=command["seconds"], peak=command["peak_mib"], found=stages["found"])
        )
        parts.append(_stages(stages))
    return "\n".join(parts)


def _parity(parity: dict[str, Any]) -> str:
    """Every output of the first layout; of the others, which hold the same weights, the worst."""
    name, *others = parity["layouts"]
    cases = parity["layouts"][name]["cases"]
    rows = []
    for output in next(iter(cases.values())):
        of_cases = [case[output] for case in cases.values()]
        size = [f"{of_cases[0][value]:.3g}" for value in ("largest", "standard_deviation")]
        rows.append([output, *(f"{row['relative']:.1e}" for row in of_cases), *size])
    header = [f"loaded from `{name}`", *cases, "largest value", "standard deviation"]
    worst = [f"{parity['layouts'][other]['worst_relative']:.1e} from `{other}`" for other in others]
    also = f"\nThe largest of all, loaded from the other layouts: {', '.join(worst)}.\n" if worst else ""
    return _table(header, rows, text=1) + also


def _loading(ways: dict[str, Any]) -> str:
    rows = []
    for name, run in ways.items():
        imported, loaded, read = (
            run[moment]["peak_mib"] for moment in ("imported", "loaded", "every_weight_read")
        )
        numbers = [
            f"{run['seconds']:.2f}",
            f"{run['processor_seconds']:.2f}",
            f"{imported:.0f}",
            f"{loaded:.0f}",
            f"{(loaded - imported) / run['weights_mib']:.2f}",
            f"{run['seconds_with_every_weight_read']:.2f}",
            f"{read:.0f}",
            f"{(read - imported) / run['weights_mib']:.2f}",
        ]
        rows.append([name, *numbers])
    header = ["", "load, s", "processor, s", "before, MiB", "peak, MiB", "of weights"]
    return _table([*header, "all read, s", "peak, all read, MiB", "of weights"], rows, text=1)


def _stages(stages: dict[str, Any]) -> str:
    first, second = stages["first_answer"], stages["second_answer"]
    rows = [[name, f"{seconds:.2f}", ""] for name, seconds in stages["starting"].items()]
    rows += [[name, f"{first[name]:.2f}", f"{second[name]:.2f}"] for name in first]
    memory = {name: round(mib) for name, mib in stages["memory"].items()}
    return (
        _table(["stage", "first, s", "second, s"], rows, text=1)
        + f"\nPeak memory {memory['peak_mib']} MiB; at the end {memory['anonymous_mib']} MiB of its own and "
        f"{memory['file_mib']} MiB of files.\n"
    )


def _table(header: list[str], rows: list[list[str]], text: int) -> str:
    """A Markdown table whose columns after the first `text` ones are numbers."""
    ruler = ["---"] * text + ["---:"] * (len(header) - text)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, ruler, *rows])

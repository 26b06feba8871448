"""One measurement of a model in a process of its own, printed as JSON; `official_size.py` starts it.

    python benchmarks/fresh_process.py load conceptseg PATH
    python benchmarks/fresh_process.py load transformers FOLDER
    python benchmarks/fresh_process.py segment PATH IMAGE PHRASE OUT

Memory is what Linux counts as resident (/proc/self/status): the highest it ever was, and what is held now,
apart into anonymous memory and pages of files. Pages of a memory-mapped file count from when they are first
read, so memory is read once more after every weight was.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHOWN = {"VmHWM": "peak_mib", "RssAnon": "anonymous_mib", "RssFile": "file_mib"}


def memory() -> dict[str, float]:
    """Peak and present resident memory of this process, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.M))
    return {ours: round(int(found[theirs]) / 1024, 1) for theirs, ours in SHOWN.items()}


def measure_load(program: str, path: str) -> dict[str, Any]:
    """Load once; the program is imported before the clock starts."""
    if program == "transformers":
        from transformers import Sam3Model

        def load() -> Any:
            return Sam3Model.from_pretrained(path)
    else:
        import conceptseg as cs
        import conceptseg.loading  # torch too: only loading is to be timed

        def load() -> Any:
            return cs.load(path, device="cpu", dtype="float32").detector

    before = memory()
    start, busy = time.perf_counter(), time.process_time()
    model = load()
    ready, busy = time.perf_counter(), time.process_time() - busy
    loaded = memory()
    weights = [*model.parameters(), *model.buffers()]
    for weight in weights:
        weight.detach().sum()
    return {
        "seconds": round(ready - start, 3),
        "processor_seconds": round(busy, 3),  # does not grow when other programs run beside it
        "seconds_with_every_weight_read": round(time.perf_counter() - start, 3),
        "weights_mib": round(sum(w.numel() * w.element_size() for w in weights) / 2**20, 1),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "imported": before,
        "loaded": loaded,
        "every_weight_read": memory(),
    }


class StageClock:
    """Seconds by the name of the stage; a stage that runs again adds to its time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def watch(self, name: str, module: Any) -> None:
        """Time every call of a module."""
        started: list[float] = []
        module.register_forward_pre_hook(lambda *call: started.append(time.perf_counter()))
        module.register_forward_hook(lambda *call: self.add(name, time.perf_counter() - started.pop()))


def measure_segment(path: str, image: str, phrase: str, out: str) -> dict[str, Any]:
    """Load, then answer and draw twice: the first answer also reads the weights into memory."""
    clock = StageClock()
    with clock.stage("import"):
        import conceptseg as cs
        import conceptseg.loading
    with clock.stage("load"):
        segmenter = cs.load(path, device="cpu", dtype="float32")
    starting = clock.seconds
    detector = segmenter.detector
    for name, module in (
        ("vision encoder", detector.vision_encoder),
        ("neck", detector.neck),
        ("text encoder", detector.text_encoder),
        ("exemplar encoder", detector.exemplar_encoder),
        ("fusion encoder", detector.fusion_encoder),
        ("decoder", detector.decoder),
        ("scoring", detector.scoring),
    ):
        clock.watch(name, module)
    answers = []
    for _ in range(2):
        clock.seconds = {}
        start = time.perf_counter()
        result = segmenter.segment(image, text=phrase)
        parts = sum(clock.seconds.values())
        clock.add("opening the image, and masks", time.perf_counter() - start - parts)
        with clock.stage("drawing"):
            result.save(Path(out) / "stages.png")
        answers.append({name: round(seconds, 3) for name, seconds in clock.seconds.items()})
    return {
        "starting": {name: round(seconds, 3) for name, seconds in starting.items()},
        "first_answer": answers[0],
        "second_answer": answers[1],
        "found": len(result),
        "memory": memory(),
    }


if __name__ == "__main__":
    measurements = {"load": measure_load, "segment": measure_segment}
    print(json.dumps(measurements[sys.argv[1]](*sys.argv[2:])))

"""A fine-tuning run that is killed at a chosen moment; a test starts this file in a process of its own.

    python -m tests.finetune.interrupted DATA MODEL OUT MOMENT

A moment is `log:N`, right after the line of step N was written; `save:N`, with half of step N's checkpoint
written; `report:0`, when the run is over and its report half written.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from conceptseg.finetune import report, run
from conceptseg.train.run_folder import RunFolder
from tests.finetune.quick import OVERRIDES


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(moment: str) -> None:
    kind, step = moment.split(":")
    log, save, write = RunFolder.log, torch.save, report.write_report

    def log_and_die(self: RunFolder, values: dict[str, Any]) -> None:
        log(self, values)
        if kind == "log" and (values["step"], values["kind"]) == (int(step), "train"):
            die()

    def half_save(state: dict[str, Any], path: Path) -> None:
        save(state, path)
        if kind == "save" and state["step"] == int(step):
            os.truncate(path, path.stat().st_size // 2)
            die()

    def half_report(*arguments: Any) -> Path:
        if kind == "report":
            die()
        return write(*arguments)

    RunFolder.log = log_and_die  # type: ignore[method-assign]
    torch.save = half_save
    run.write_report = half_report  # type: ignore[assignment]


if __name__ == "__main__":
    data, model, out, moment = sys.argv[1:]
    torch.set_num_threads(1)
    RunFolder.draw_losses = lambda self: None  # type: ignore[method-assign]
    prepare(moment)
    run.finetune(data, model, out, overrides=OVERRIDES)

"""Training runs that die at a chosen moment; a test starts this file in a process of its own.

    python -m tests.train.interrupted RECIPE [MOMENT OUT]...

A moment is `log:N`, right after the line of step N was written; `save:N`, with half of step N's checkpoint
written; `term:N`, a SIGTERM to the whole process group while step N is under way.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from conceptseg.cli.main import main
from conceptseg.train.run_folder import RunFolder
from tests.train.tiny import make_quick

log, save = RunFolder.log, torch.save


def prepare(moment: str) -> None:
    kind, step = moment.split(":")

    def log_and_die(self: RunFolder, values: dict[str, Any]) -> None:
        log(self, values)
        if values["step"] == int(step) and values["kind"] == "train":
            if kind == "log":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "term":
                os.killpg(0, signal.SIGTERM)

    def half_save(state: dict[str, Any], path: Path) -> None:
        save(state, path)
        if kind == "save" and state["step"] == int(step):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    RunFolder.log = log_and_die  # type: ignore[method-assign]
    torch.save = half_save


if __name__ == "__main__":
    make_quick()
    recipe, *rest = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `term` signals this process too
    for moment, out in zip(rest[::2], rest[1::2], strict=True):
        # Forked, because importing torch takes longer than the run.
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            prepare(moment)
            code = main(["train", recipe, "--out", out])
            sys.stderr.flush()
            os._exit(code)
        print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

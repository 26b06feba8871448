"""Labellings that are killed at their n-th step, each in a process of its own.

python -m tests.labelling.killed MODEL PHOTOS FOLDER MOMENT...

A step is a file opened, renamed, removed or linked, or a batch kept. Each labelling goes into FOLDER/MOMENT;
moment 0 is not killed, and prints how many steps there were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from conceptseg.labelling.run import label
from tests.labelling.pictures import FORMATS, two_phrases

STEPS = {"open", "os.rename", "os.remove", "os.symlink", "batch"}


def main(model: str, photos: str, folder: str, *moments: str) -> None:
    torch.set_num_threads(1)
    settings = two_phrases(Path(model))
    segmenter = settings.model.load()
    for moment in moments:
        child = os.fork()
        if child == 0:
            steps = 0

            def step(event: str, *_: Any, last: int = int(moment)) -> None:
                nonlocal steps
                if event not in STEPS:
                    return
                steps += 1
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(step)
            label(
                [photos],
                settings,
                Path(folder) / moment,
                formats=FORMATS,
                batch_size=2,
                shard_size=4,
                segmenter=segmenter,
                progress=lambda done, wanted: step("batch"),
            )
            print(steps, flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        ended_well = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert ended_well if moment == "0" else killed


if __name__ == "__main__":
    main(*sys.argv[1:])

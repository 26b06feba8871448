"""What was freed goes back to the system."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HOLES = """
import json, re
from pathlib import Path
import torch
from conceptseg.models.cpu.heap import give_back_freed
def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
made = [torch.ones(16_000) for _ in range(2_000)]  # 64 kB each, on the heap
kept = made[::2]
del made
before = held()
give_back_freed()
print(json.dumps([before, held(), float(sum(x.sum() for x in kept))]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_holes_between_what_is_kept_are_given_back() -> None:
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(2**30)}  # the C library would keep all of it
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, env=env)
    before, after, total = json.loads(done.stdout)
    assert before - after > 40  # MiB, of the 61 that were freed
    assert total == 16_000 * 1_000

"""Loading takes hardly more memory than the weights, whatever has to be done to them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conceptseg.checkpoints.checkpoint import build_empty
from conceptseg.checkpoints.huggingface import HUGGING_FACE, POINTS
from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.models.config import TextConfig
from tests.checkpoints.foreign_files import CONFIG, write_tokenizer
from tests.models.tiny import RESOLUTION

# Three quarters of this network are query, key and value matrices, which this layout keeps apart: 135 MB.
STACKED = dataclasses.replace(
    CONFIG, text=TextConfig(vocab_size=300, context_length=8, width=1024, depth=8, heads=16, mlp_width=64)
)
# In a process of its own: the most memory that a process ever had cannot be set back.
PROGRAM = """
import json, sys
from pathlib import Path
from conceptseg.checkpoints.loaders import open_checkpoint

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

checkpoint = open_checkpoint(Path(sys.argv[1]))
before = memory("VmRSS")
detector = getattr(checkpoint, sys.argv[2])()
for parameter in detector.parameters():
    parameter.detach().flatten()[::512].sum()  # touches every page of it
size = sum(p.numel() * p.element_size() for p in detector.parameters())
print(json.dumps({"peak": memory("VmHWM") - before, "size": size}))
"""


def memory_of(model: Path, method: str) -> dict[str, int]:
    """Bytes of the weights that a method of `Checkpoint` loads, and the peak on the way."""
    run = [sys.executable, "-c", PROGRAM, str(model), method]
    # What is freed goes back at once; by itself the allocator now and then keeps some of it.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=env)
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_stacked_or_widened_never_lie_in_memory_twice(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    shapes = {name: value.shape for name, value in build_empty(STACKED).state_dict().items()}
    ours = {n: torch.full(shape, 0.5, dtype=dtype) for n, shape in shapes.items() if POINTS not in n}
    save_file({n: v.clone() for n, v in HUGGING_FACE.back(ours)[0].items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config_to_huggingface(STACKED, RESOLUTION)))
    write_tokenizer(tmp_path)
    result = memory_of(tmp_path, "load")
    assert result["size"] > 130_000_000
    assert result["peak"] <= 1.2 * result["size"]

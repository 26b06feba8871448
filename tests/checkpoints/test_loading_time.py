"""What must not happen while a model loads, because it takes longer than loading."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.huggingface_config import config_to_huggingface
from conceptseg.checkpoints.loaders import open_checkpoint
from tests.checkpoints.foreign_files import CONFIG, huggingface_state, official_state, write_tokenizer
from tests.models.tiny import RESOLUTION

# In a process of its own: other tests may have imported it.
PROGRAM = """
import sys
import conceptseg as cs
for path in sys.argv[1:]:
    cs.load(path, device="cpu")
    print(path, "torch._dynamo" in sys.modules)
"""


def test_no_layout_makes_torch_import_its_compiler(tmp_path: Path) -> None:
    hub, official, own = tmp_path / "hf", tmp_path / "official", tmp_path / "own"
    for folder in (hub, official):
        write_tokenizer(folder)
    save_file(huggingface_state(), hub / "model.safetensors")
    (hub / "config.json").write_text(json.dumps(config_to_huggingface(CONFIG, RESOLUTION)))
    torch.save(official_state(), official / "sam3.pt")
    convert(open_checkpoint(hub), own)
    names = ["nano", str(hub), str(official / "sam3.pt"), str(own)]
    run = [sys.executable, "-c", PROGRAM, *names]
    printed = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [f"{name} False" for name in names]

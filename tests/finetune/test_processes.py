"""Two processes fine-tune one model as one process does with twice the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conceptseg.finetune import finetune
from conceptseg.train.run_folder import RunFolder
from tests.finetune.quick import OVERRIDES, assert_close
from tests.train.processes import run_together

WORKER = """
import sys
import torch
from conceptseg.finetune import finetune
from conceptseg.train.run_folder import RunFolder

torch.set_num_threads(1)
RunFolder.draw_losses = lambda self: None
finetune(*sys.argv[1:4], overrides=sys.argv[4:])
"""

# Exactly the same but for the order of sums: no batch norm that looks at one process's images (its encoder is
# frozen), no dense map (its loss is a mean over the pairs of one process), no half precision.
SAME = ["only=heads", "precision=float32", "weights.semantic_focal=0", "weights.semantic_dice=0"]


@pytest.mark.slow
@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_processes_train_what_one_trains_with_twice_the_batch(
    tiles: Path, model: Path, tmp_path: Path
) -> None:
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    run_together(WORKER, [str(tiles), str(model), str(two.path), *OVERRIDES, *SAME])
    finetune(tiles, str(model), one.path, overrides=[*OVERRIDES, *SAME, "batch.images=4"])
    states = [torch.load(folder.checkpoint_path, weights_only=True)["task"] for folder in (one, two)]
    assert_close(*states)
    totals = [
        [line["loss/box_l1"] for line in folder.metrics() if line["kind"] == "train"] for folder in (one, two)
    ]
    assert len(totals[0]) == len(totals[1]) == 6  # the main process logs its own half of each step
    assert (two.path / "report.md").is_file() and (two.model_path / "model.safetensors").is_file()

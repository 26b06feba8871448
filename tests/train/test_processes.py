"""Two processes on a CPU train one model: each on scenes of its own, both to the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conceptseg.train.run_folder import RunFolder
from tests.train.processes import run_together
from tests.train.tiny import TINY, write_recipe

STEPS = 3

WORKER = """
import hashlib, json, sys
from conceptseg.train import loop
from conceptseg.train.run import train_recipe
from tests.train.processes import run_together
from tests.train.tiny import make_quick

make_quick()
scenes, weights = [], []
honest, run = loop.batches_from, loop.Trainer.run

def note_scenes(data, start):
    for batch in honest(data, start):
        scenes.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in batch.pixels)
        yield batch

def note_weights(self, state):
    trained = run(self, state)
    for task in (self.task, trained):
        values = b"".join(p.detach().numpy().tobytes() for p in task.parameters())
        weights.append(hashlib.sha256(values).hexdigest())
    return trained

loop.batches_from, loop.Trainer.run = note_scenes, note_weights
train_recipe(sys.argv[1], out=sys.argv[2])
print(json.dumps([scenes, weights]))
"""


def train_together(recipe: Path, out: Path) -> list[tuple[list[str], list[str]]]:
    """What each of two processes saw and ended with: hashes of scenes, and of weights, last and averaged."""
    written = run_together(WORKER, [str(recipe), str(out)])
    return [tuple(json.loads(text.splitlines()[-1])) for text in written]


@pytest.mark.slow
@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_processes_take_other_scenes_and_end_with_the_same_weights(tmp_path: Path) -> None:
    stage = {**TINY["data"]["stages"][0], "steps": STEPS}
    recipe = write_recipe(tmp_path / "tiny.yaml", data={"workers": 0, "stages": [stage]}, validate_every=2)
    folder = RunFolder(tmp_path / "run")
    (scenes, weights), (other_scenes, other_weights) = train_together(recipe, folder.path)
    assert len(scenes) == len(other_scenes) == STEPS * stage["images"]
    assert not set(scenes) & set(other_scenes)
    assert weights == other_weights and weights[0] != weights[1]

    state = torch.load(folder.checkpoint_path, weights_only=True)
    assert (state["step"], state["processes"]) == (STEPS, 2)
    steps = [(line["kind"], line["step"]) for line in folder.metrics()]
    assert sorted(steps) == [("train", 1), ("train", 2), ("train", 3), ("validation", 2), ("validation", 3)]
    assert (folder.model_path / "model.safetensors").is_file()

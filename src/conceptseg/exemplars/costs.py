"""What an encoder and its losses cost: time and memory of a training step, and of an answer.

Times are CPU seconds of this process, so that other work on the machine counts less; the best of several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.data.scenes import Scene
from conceptseg.segmenter import Segmenter
from conceptseg.train.exemplar_alignment import AlignTask

TRIES = 5


def training_costs(task: AlignTask, batches: Sequence[Batch], tries: int = TRIES) -> dict[str, float]:
    """One step without the optimiser.

    Returns:
        `step_seconds`; `activation_mb`, of all that autograd keeps between the way forth and back, each
        tensor once and weights left out; `gradient_mb`; `parameters` that train.
    """
    task.train()
    weights = task.loss_weights(0)
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]

    def step(batch: Batch) -> None:
        torch.manual_seed(0)
        losses = task(batch, batch.targets.valid.sum().clamp(min=1).float())
        total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]

    def steps() -> None:
        for batch in batches:
            step(batch)

    own = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself would hold the step that holds it, and neither were ever freed

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step(batches[0])
    gradients = sum(p.grad.nbytes for p in trained if p.grad is not None)
    seconds = _best(steps, tries) / len(batches)
    for parameter in trained:
        parameter.grad = None
    return {
        "step_seconds": seconds,
        "activation_mb": sum(kept.values()) / 1e6,
        "gradient_mb": gradients / 1e6,
        "parameters": float(sum(p.numel() for p in trained)),
    }


def answer_costs(segmenter: Segmenter, scene: Scene, tries: int = TRIES) -> dict[str, float]:
    """`encoder_seconds`: three boxes through the exemplar encoder; `answer_seconds`: the whole answer."""
    boxes = [list(it.box_xyxy) for it in scene.objects[:3]]
    encoded = segmenter.encode(scene.image)
    return {
        "encoder_seconds": _best(lambda: segmenter.exemplar(encoded, boxes=boxes), 2 * tries),
        "answer_seconds": _best(lambda: segmenter.segment(scene.image, boxes=boxes), tries),
    }


def _best(work: Callable[[], object], tries: int) -> float:
    best = float("inf")
    for _ in range(tries):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best

"""Our own network as the port that is checked: whole, or with one thing wrong in it."""

from __future__ import annotations

from typing import Any

import torch

from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.conformance.kit import Kit
from conceptseg.conformance.stages import Questions, processor_tensors, stage_tensors
from conceptseg.segmenter import Segmenter


def open_port(kit: Kit) -> Segmenter:
    """What reads the weights of a kit from its official file."""
    return Segmenter(*load_checkpoint(kit.folder / kit.about["weights"]))


def asked(kit: Kit) -> Questions:
    tensors = {name: torch.from_numpy(value) for name, value in kit.inputs.items()}
    return Questions(
        images=[kit.inputs["image.0"], kit.inputs["image.1"]],
        phrases=kit.about["phrases"],
        **{name: value for name, value in tensors.items() if not name.startswith("image.")},
    )


def answers(port: Segmenter, kit: Kit) -> dict[str, Any]:
    """Stage -> array."""
    questions = asked(kit)
    tensors = stage_tensors(port.detector, port.config, questions)
    tensors |= processor_tensors(port, questions, kit.about["threshold"])
    return {name: value.numpy() for name, value in tensors.items()}

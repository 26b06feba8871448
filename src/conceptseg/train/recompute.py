"""Activation checkpointing: blocks forget what they computed and compute it again on the way back.

Memory for activations then grows with the largest block, not with their number; steps take a third longer.
Source: Chen et al. 2016, arXiv:1604.06174.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from conceptseg.models.decoder import DecoderLayer
from conceptseg.models.detector import Detector
from conceptseg.models.fusion_encoder import FusionLayer
from conceptseg.models.text.block import TextBlock
from conceptseg.models.vision.vit import Block

# Convolutional blocks are left out: their batch norm would count the same images twice.
BLOCKS = (Block, TextBlock, FusionLayer, DecoderLayer)


class Forgetful(nn.Module):
    """Stands before a block in the order of its classes, and has its `forward` computed twice."""

    def forward(self, *given: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled():
            return super().forward(*given, **more)
        return checkpoint(super().forward, *given, use_reentrant=False, **more)


def forget_activations(detector: Detector) -> None:
    """Have every transformer block forget; nothing is wrapped, so names stay as they are."""
    for module in detector.modules():
        if isinstance(module, BLOCKS) and not isinstance(module, Forgetful):
            kind = type(module)
            module.__class__ = type(f"Forgetful{kind.__name__}", (Forgetful, kind), {})

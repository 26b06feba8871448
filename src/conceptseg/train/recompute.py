"""Activation checkpointing: blocks forget what they computed and compute it again on the way back.

Memory for activations then grows with the largest block, not with their number; steps take a third longer.
Source: Chen et al. 2016, arXiv:1604.06174.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from conceptseg.models.decoder import DecoderLayer
from conceptseg.models.detector import Detector
from conceptseg.models.fusion_encoder import FusionLayer
from conceptseg.models.text.block import TextBlock
from conceptseg.models.vision.vit import Block

# Convolutional blocks are left out: their batch norm would count the same images twice.
BLOCKS = (Block, TextBlock, FusionLayer, DecoderLayer)


def forget_activations(detector: Detector) -> None:
    """Wrap every transformer block; names in `state_dict` stay as they are."""
    apply_activation_checkpointing(detector, check_fn=_is_block)


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, BLOCKS)

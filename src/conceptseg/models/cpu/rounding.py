"""Which weights bfloat16 inference rounds anyway, so that they can be stored rounded.

Autocast rounds the weights of matrix products and convolutions each time they are used. Rounded once, when
they are read from the file, they take half the memory and no time in a pass, and every answer is the same to
the last bit. What autocast leaves alone stays float32: norms, embeddings, positions, the decoder's
feed-forward where it is kept out of autocast. So do small heads, whose weights say what number type goes in.

A network with rounded weights can be asked, and nothing else: what training, export and files need is gone.
"""

from __future__ import annotations

import torch
from torch import nn

from conceptseg.models.decoder import DecoderLayer
from conceptseg.models.layers.attention import Attention

ROUNDED = torch.bfloat16
MULTIPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, Attention)
KEPT = (
    "exemplar_encoder",
    "scoring",
    "decoder.box_head",
    "decoder.reference_head",
    "decoder.box_bias",
    "decoder.presence_head",
)


def roundable(detector: nn.Module) -> set[str]:
    """Names of the parameters of a detector, or of a part, that bfloat16 autocast rounds before each use."""
    kept = [*KEPT]
    for name, module in detector.named_modules():
        if isinstance(module, DecoderLayer) and module.ffn_float32:
            kept.append(f"{name}.feed_forward")
    return {
        f"{name}.{parameter}"
        for name, module in detector.named_modules()
        if isinstance(module, MULTIPLIED) and not any(f"{name}.".startswith(f"{part}.") for part in kept)
        for parameter, _ in module.named_parameters(recurse=False)
    }


def is_rounded(detector: nn.Module) -> bool:
    """Whether weights of this network were rounded when it was loaded."""
    return any(parameter.dtype == ROUNDED for parameter in detector.parameters())

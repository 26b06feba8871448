"""Presence: is the concept in the image at all? Binary cross-entropy on the presence token's logit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import ShapeError


def presence_loss(presence_logits: Tensor, present: Tensor) -> Tensor:
    """Teach the presence token to tell present from absent concepts.

    The official loss is a focal loss with alpha 0.5 and gamma 0, which is half the cross-entropy.

    Args:
        presence_logits: (L, B), before the sigmoid, one per decoder layer.
        present: (B,) bool.

    Returns:
        (L,) in nats, mean over pairs of each layer.

    Raises:
        ShapeError: the two disagree in B.
    """
    if presence_logits.shape[-1:] != present.shape:
        given, wanted = tuple(presence_logits.shape), tuple(present.shape)
        raise ShapeError(f"presence logits {given} do not fit present {wanted}")
    target = present.to(presence_logits.dtype).expand_as(presence_logits)
    return 0.5 * F.binary_cross_entropy_with_logits(presence_logits, target, reduction="none").mean(-1)

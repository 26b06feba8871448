"""Distillation: a student's tensors against its teacher's on the same image and prompt.

Teachers get no gradient. Every loss is free of the scale of its features or counted in nats, so that weights
mean the same for every teacher.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import ShapeError
from conceptseg.losses.boxes import box_losses

TINY = 1e-6  # keeps the scale of silent features finite


def feature_losses(
    student: Tensor, teacher: Tensor, padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pull features to the teacher's, in size and in direction.

    Args:
        student: (..., D).
        teacher: (..., D).
        padding_mask: (...), True = padding, which is left out; None: nothing is padded.

    Returns:
        Mean squared error over the teacher's mean square, and 1 - cosine; means over what is no padding, zero
        where all is.

    Raises:
        ShapeError: shapes differ.
    """
    if student.shape != teacher.shape:
        raise ShapeError(f"student features {tuple(student.shape)} do not fit {tuple(teacher.shape)}")
    s, t = student.float(), teacher.detach().float()
    valid = s.new_ones(s.shape[:-1]) if padding_mask is None else (~padding_mask).to(s.dtype)
    count = valid.sum().clamp(min=1)
    error = ((s - t).square().mean(-1) * valid).sum() / count
    size = (t.square().mean(-1) * valid).sum() / count
    cosine = (F.cosine_similarity(s, t, dim=-1) * valid).sum() / count
    return error / size.clamp(min=TINY), valid.sum() / count - cosine


def map_losses(student: Tensor, teacher: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`feature_losses` of maps; the teacher's is brought to the student's size.

    Args:
        student: (B, D, h, w).
        teacher: (B, D, H, W).
        padding_mask: (B, h, w), True = padding.
    """
    if student.shape[-2:] != teacher.shape[-2:]:
        teacher = F.interpolate(teacher.float(), student.shape[-2:], mode="bilinear", antialias=True)
    return feature_losses(student.movedim(1, -1), teacher.movedim(1, -1), padding_mask)


def divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What it costs to believe the student where the teacher is right, for two outcomes; zero where equal.

    Args:
        student_logits: before the sigmoid.
        teacher_logits: of the same shape; not scaled by any calibration.

    Returns:
        Nats, element by element.

    Raises:
        ShapeError: shapes differ.

    Source: Hinton et al. 2015, arXiv:1503.02531, for two outcomes, temperature 1.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ShapeError(
            f"student logits {tuple(student_logits.shape)} do not fit {tuple(teacher_logits.shape)}"
        )
    s, t = student_logits.float(), teacher_logits.detach().float()
    belief = t.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(s, belief, reduction="none")
    return cross_entropy - F.binary_cross_entropy_with_logits(t, belief, reduction="none")


def distil_presence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Teach the student the teacher's belief that the concept is there at all.

    Args:
        student_logits: (L, B), before the sigmoid, one per decoder layer.
        teacher_logits: (L, B).

    Returns:
        Scalar in nats, mean over layers and pairs.
    """
    return divergence(student_logits, teacher_logits).mean()


def distil_classes(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Teach every query its class score.

    Args:
        student_logits: (L, N, B).
        teacher_logits: (L, N, B); queries correspond by index, because both descend from the same ones.

    Returns:
        Scalar in nats: sum over queries, mean over layers and pairs. A sum, because of a hundred queries a
        few mean something; a mean would hardly hear them.
    """
    return divergence(student_logits, teacher_logits).sum(1).mean()


def distil_boxes(student_cxcywh: Tensor, teacher_cxcywh: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Pull boxes to the teacher's, as far as the teacher means them.

    Args:
        student_cxcywh: (L, N, B, 4) in 0..1.
        teacher_cxcywh: (L, N, B, 4).
        weights: (N, B), 0 or more: the teacher's class scores. Where a query answers nothing, nothing is
            learned from where its box happens to lie.

    Returns:
        L1 and 1 - GIoU, weighted means over layers, queries and pairs.
    """
    if student_cxcywh.shape != teacher_cxcywh.shape:
        raise ShapeError(
            f"student boxes {tuple(student_cxcywh.shape)} do not fit {tuple(teacher_cxcywh.shape)}"
        )
    w = weights.detach().float().expand(student_cxcywh.shape[:-1])  # (L, N, B)
    l1, giou = box_losses(student_cxcywh.float(), teacher_cxcywh.detach().float())
    total = w.sum().clamp(min=TINY)
    return (l1 * w).sum() / total, (giou * w).sum() / total


def distil_masks(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Teach masks: pixel by pixel, and as wholes.

    Args:
        student_logits: (B, K, h, w) of chosen queries.
        teacher_logits: (B, K, H, W). Where sizes differ, the smaller one is enlarged, as masks are when they
            are read. Logits are never shrunk: their mean over an edge follows the larger side, which is the
            outside, so that a student would learn masks that are too small.
        weights: (B, K), 0 or more: the teacher's class scores.

    Returns:
        Divergence in nats per pixel, and 1 - dice of soft masks; weighted means over queries and pairs.
    """
    (height, width), (tall, wide) = student_logits.shape[-2:], teacher_logits.shape[-2:]
    size = (max(height, tall), max(width, wide))
    student, teacher = (_enlarged(x.float(), size) for x in (student_logits, teacher_logits.detach()))
    pixelwise = divergence(student, teacher).mean((-2, -1))  # (B, K)
    s, t = student.sigmoid().flatten(2), teacher.sigmoid().flatten(2)
    # One is added above and below, as in the detection loss: two empty masks are equal.
    dice = 1 - (2 * (s * t).sum(-1) + 1) / (s.square().sum(-1) + t.square().sum(-1) + 1)
    w = weights.detach().float()
    total = w.sum().clamp(min=TINY)
    return (pixelwise * w).sum() / total, (dice * w).sum() / total


def _enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) -> (B, K, *size)."""
    return logits if logits.shape[-2:] == size else F.interpolate(logits, size, mode="bilinear")


def best_queries(class_logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The queries that a teacher means most.

    Args:
        class_logits: (N, B) of the last layer.
        count: K, at most N.

    Returns:
        Indices (B, K) into N, and their scores (B, K).
    """
    scores, index = class_logits.detach().float().sigmoid().t().topk(min(count, len(class_logits)), dim=1)
    return index, scores

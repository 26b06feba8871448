"""How far a student's features lie from its teacher's, summed up token by token.

Nothing is kept but sums over tokens, so any number of images fits: a component of C channels takes three
matrices of C x C. Tokens correspond: row k of both sides is the same place of the same image (or the same
word, or the same query).

Source of linear CKA: Kornblith et al. 2019, arXiv:1905.00414, in its feature form.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import ShapeError

TINY = 1e-12  # keeps ratios of silent channels finite


@dataclass(frozen=True)
class FeatureDrift:
    """One component, student against teacher; None where channels do not correspond.

    Attributes:
        tokens: rows that were compared.
        student_channels: of the student.
        teacher_channels: of the teacher.
        cosine: mean over tokens, 1 = same direction.
        relative_error: |student - teacher| / |teacher| over all tokens, 0 = equal.
        mean_shift: root mean square over channels of (student mean - teacher mean) / teacher deviation.
        variance_shift: mean over channels of |log2(student variance / teacher variance)|; 1 = a factor of 2.
        variance_ratio: the student's variance over the teacher's, summed over channels.
        cka: linear CKA, 0..1; does not care for rotation and scale, so it also says whether the same things
            are told apart where channels do not correspond. Fewer tokens than channels make it too high.
    """

    tokens: int
    student_channels: int
    teacher_channels: int
    cosine: float | None
    relative_error: float | None
    mean_shift: float | None
    variance_shift: float | None
    variance_ratio: float
    cka: float

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


class FeatureComparison:
    """Add tokens image by image, then read the figures."""

    def __init__(self) -> None:
        self._tokens = 0
        self._cosine = 0.0
        self._error = self._size = 0.0  # sums of squares
        self._sums: dict[str, Tensor] = {}

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Count K tokens.

        Args:
            student: (K, C), any floating-point type and device.
            teacher: (K, C'), row by row the same places.

        Raises:
            ShapeError: the numbers of tokens differ, or of channels from one call to the next.
        """
        if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
            raise ShapeError(
                f"features {tuple(student.shape)} and {tuple(teacher.shape)} must be (tokens, channels), "
                "with the same tokens"
            )
        s, t = (side.detach().to("cpu", torch.float64) for side in (student, teacher))
        new = {"s": s.sum(0), "t": t.sum(0), "ss": s.T @ s, "tt": t.T @ t, "st": s.T @ t}
        for name, value in new.items():
            before = self._sums.get(name)
            if before is not None and before.shape != value.shape:
                raise ShapeError(f"features had {tuple(before.shape)} sums before, now {tuple(value.shape)}")
            self._sums[name] = value if before is None else before + value
        self._tokens += len(s)
        if s.shape == t.shape:
            self._cosine += float(F.cosine_similarity(s, t, dim=-1).sum())
            self._error += float((s - t).square().sum())
            self._size += float(t.square().sum())

    def result(self) -> FeatureDrift | None:
        """The figures so far; None before the first token."""
        if not self._tokens:
            return None
        n, sums = self._tokens, self._sums
        s_mean, t_mean = sums["s"] / n, sums["t"] / n
        s_variance = (sums["ss"].diagonal() / n - s_mean.square()).clamp(min=0)
        t_variance = (sums["tt"].diagonal() / n - t_mean.square()).clamp(min=0)
        same = len(s_mean) == len(t_mean)
        mean_shift = variance_shift = None
        if same:
            mean_shift = float(((s_mean - t_mean).square() / (t_variance + TINY)).mean().sqrt())
            ratio = (s_variance + TINY) / (t_variance + TINY)
            variance_shift = float(ratio.log2().abs().mean())
        return FeatureDrift(
            tokens=n,
            student_channels=len(s_mean),
            teacher_channels=len(t_mean),
            cosine=self._cosine / n if same else None,
            relative_error=math.sqrt(self._error / max(self._size, TINY)) if same else None,
            mean_shift=mean_shift,
            variance_shift=variance_shift,
            variance_ratio=float(s_variance.sum() / (t_variance.sum() + TINY)),
            cka=self._cka(),
        )

    def _cka(self) -> float:
        n, sums = self._tokens, self._sums
        cross = sums["st"] - torch.outer(sums["s"], sums["t"]) / n
        own = sums["ss"] - torch.outer(sums["s"], sums["s"]) / n
        theirs = sums["tt"] - torch.outer(sums["t"], sums["t"]) / n
        return float(cross.square().sum() / (own.norm() * theirs.norm() + TINY))

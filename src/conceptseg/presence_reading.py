"""How presence is read: what a model's presence logit says, and what it does to scores.

A network gives one logit for "is the concept in the image at all?". Officially its sigmoid multiplies every
class score; a model whose presence went wrong can have it calibrated, or ignored, by its config.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from conceptseg.choices import PresenceMode, check_choice
from conceptseg.models.config import ModelConfig, PresenceCalibration


@dataclass(frozen=True)
class PresenceReading:
    """One way to read presence; where logits are asked for, they are as the network gave them."""

    mode: PresenceMode = "multiply"
    calibration: PresenceCalibration = field(default_factory=PresenceCalibration)

    @classmethod
    def of(cls, config: ModelConfig, mode: PresenceMode | None = None) -> PresenceReading:
        """As a model's config says, but for the mode where it is given.

        Raises:
            OptionError: an unknown mode.
        """
        mode = config.presence_mode if mode is None else mode
        check_choice("presence", mode, PresenceMode)
        return cls(mode, config.presence_calibration)

    def probability(self, presence_logits: Tensor) -> Tensor:
        """That the concept is there, of the same shape; calibrated only in the mode of that name."""
        if self.mode == "calibrated":
            presence_logits = self.calibration.scale * presence_logits + self.calibration.offset
        return presence_logits.sigmoid()

    def factor(self, presence_logits: Tensor) -> Tensor:
        """What class scores are multiplied by, of the same shape: 1 where presence is ignored."""
        return (
            torch.ones_like(presence_logits) if self.mode == "ignore" else self.probability(presence_logits)
        )

    def scores(self, class_logits: Tensor, presence_logits: Tensor) -> Tensor:
        """Score of every query.

        Args:
            class_logits: (N, B), before presence.
            presence_logits: (B,).

        Returns:
            (N, B) in [0, 1], float32.
        """
        return class_logits.float().sigmoid() * self.factor(presence_logits.float())

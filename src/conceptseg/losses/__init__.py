"""What the network learns from: matching and one loss per file; `detection.py` puts them together."""

from conceptseg.losses.detection import DetectionLoss, DetectionLossConfig, LossWeights
from conceptseg.losses.matcher import Matches, hungarian_match, one_to_many_match
from conceptseg.losses.targets import Targets

__all__ = [
    "DetectionLoss",
    "DetectionLossConfig",
    "LossWeights",
    "Matches",
    "Targets",
    "hungarian_match",
    "one_to_many_match",
]

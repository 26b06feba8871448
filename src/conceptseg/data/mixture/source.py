"""What every source of images gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from conceptseg.data.batch import Question
from conceptseg.data.collate import PreparedImage
from conceptseg.data.scene_batches import SceneStage
from conceptseg.data.scenes import Scene


@dataclass
class AskedPair:
    """Two images of one source, what is asked of them, and what their objects are called."""

    images: list[PreparedImage]
    questions: list[Question]  # images by number, 0 or 1
    names: list[list[list[str]]] | None = None  # of each image's objects, narrow names; None for scenes
    scenes: list[Scene] = field(default_factory=list)


class Source(Protocol):
    """Where pairs of images come from."""

    def pair(self, number: int, stage: SceneStage, difficulty: float, rng: np.random.Generator) -> AskedPair:
        """Pair `number` of the run; all that is random in it is drawn from `rng`."""

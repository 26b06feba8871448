"""Procedural scenes as a source of a mixture."""

from __future__ import annotations

import numpy as np

from conceptseg.data.mixture.config import MixtureConfig
from conceptseg.data.mixture.source import AskedPair
from conceptseg.data.scene_batches import SceneStage, prepared_scene
from conceptseg.data.scene_questions import QuestionMaker
from conceptseg.data.scenes import render_scene


class ScenePairs:
    """Two scenes of one theme."""

    def __init__(self, config: MixtureConfig, seed: int, split: str) -> None:
        self.seed, self.split = seed, split
        self.maker = QuestionMaker(config.questions)

    def pair(self, number: int, stage: SceneStage, difficulty: float, rng: np.random.Generator) -> AskedPair:
        theme = self.seed * 1_000_003 + number
        scenes = [
            render_scene(
                2 * theme + i, size=stage.render_size, split=self.split, theme=theme, difficulty=difficulty
            )
            for i in range(2)
        ]
        questions = [self.maker.ask(scenes, i, rng) for i in range(2) for _ in range(stage.questions)]
        images = [prepared_scene(scene, stage.resolution, stage.mask_size) for scene in scenes]
        return AskedPair(images, questions, scenes=scenes)

"""Labelled photographs as a source of a mixture."""

from __future__ import annotations

import numpy as np

from conceptseg.data.annotated_view import AnnotatedView, view_image
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.mixture.config import MixtureConfig, PhotographSource
from conceptseg.data.mixture.questions import PhotographQuestions
from conceptseg.data.mixture.source import AskedPair
from conceptseg.data.scene_batches import SceneStage
from conceptseg.data.view import draw_view

WHOLE = (0.85, 1.0)  # sides of what is seen of an image that is shown nearly whole, as shares of its own


class PhotographPairs:
    """Two photographs of one dataset, often with a name in common."""

    def __init__(
        self,
        dataset: ConceptDataset,
        source: PhotographSource,
        config: MixtureConfig,
        asker: PhotographQuestions,
    ) -> None:
        self.dataset, self.source, self.config, self.asker = dataset, source, config, asker
        self.by_name: dict[str, list[int]] = {}
        for number in range(len(dataset)):
            for name in dataset[number].phrases:
                self.by_name.setdefault(name, []).append(number)

    def pair(self, number: int, stage: SceneStage, difficulty: float, rng: np.random.Generator) -> AskedPair:
        first = int(rng.integers(len(self.dataset)))
        names = sorted(self.dataset[first].phrases)
        second = int(rng.integers(len(self.dataset)))
        if names and rng.random() < 0.6:
            beside = self.by_name[names[int(rng.integers(len(names)))]]
            second = beside[int(rng.integers(len(beside)))]
        views, narrow = [], []
        for index in (first, second):
            view = self._view(index, stage, rng)
            narrow.append(object_names(view))
            own = self.dataset.phrases if self.source.everything else ()
            self.asker.complete(view, view.absent, not self.source.narrow, own)
            views.append(view)
        questions = [self.asker.ask(views, i, rng) for i in range(2) for _ in range(stage.questions)]
        return AskedPair([view.prepared for view in views], questions, narrow)

    def _view(self, index: int, stage: SceneStage, rng: np.random.Generator) -> AnnotatedView:
        image, augment = self.dataset[index], self.config.augment
        shares = (augment.smallest_window, 1.0) if rng.random() < augment.windows else WHOLE
        view = draw_view(image.width, image.height, augment, shares, bool(augment.turns), rng)
        return view_image(
            image, view, stage.resolution, stage.mask_size, augment.colour, self.dataset.phrases, rng
        )


def object_names(view: AnnotatedView) -> list[list[str]]:
    """The names of each object of a view."""
    names: list[list[str]] = [[] for _ in view.prepared.boxes_xyxy]
    for name, objects in view.phrases.items():
        for number in objects:
            names[number].append(name)
    return names

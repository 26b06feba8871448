"""Objects of photographs, pasted on other pictures, as a source of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from conceptseg.data.annotated_view import AnnotatedView
from conceptseg.data.collate import PreparedImage
from conceptseg.data.composites import Composite, compose, covered, mask_boxes
from conceptseg.data.cutouts import Cutouts
from conceptseg.data.mixture.config import CompositeSource, MixtureConfig
from conceptseg.data.mixture.datasets import Opened
from conceptseg.data.mixture.questions import PhotographQuestions
from conceptseg.data.mixture.source import AskedPair
from conceptseg.data.names import Names
from conceptseg.data.scene_batches import SceneStage
from conceptseg.data.view import recoloured
from conceptseg.errors import DataError
from conceptseg.images import Pixels, load_image, square_pixels

PICTURES = (".jpg", ".jpeg", ".png")


class CompositePairs:
    """Two composites that share a kind of object."""

    def __init__(
        self, source: CompositeSource, config: MixtureConfig, opened: Opened, asker: PhotographQuestions
    ) -> None:
        self.source, self.config, self.asker = source, config, asker
        self.cutouts = Cutouts(
            [opened.get(path, source.split) for path in source.cutouts], source.smallest_cutout
        )
        self.grounds = [opened.get(path, source.split) for path in source.grounds]
        self.backgrounds: list[Path] = []
        if source.backgrounds is not None:
            folder = config.folder(source.backgrounds)
            self.backgrounds = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
            if not self.backgrounds:
                raise DataError(f"{folder} holds no picture to paste objects on")
        # A name with many photographs is drawn more often than one with few, but not as many times.
        weights = np.array([len(self.cutouts.by_name[name]) for name in self.cutouts.names]) ** 0.5
        self._weights = weights / weights.sum()

    def pair(self, number: int, stage: SceneStage, difficulty: float, rng: np.random.Generator) -> AskedPair:
        shared = self._name(rng)
        views, narrow = [], []
        for _ in range(2):
            composite = self.draw(self.kinds(rng, shared), stage.resolution, rng)
            views.append(self._view(composite, stage, rng))
            narrow.append([[name] for name in composite.names])
        questions = [self.asker.ask(views, i, rng) for i in range(2) for _ in range(stage.questions)]
        return AskedPair([view.prepared for view in views], questions, narrow)

    def kinds(self, rng: np.random.Generator, first: str | None = None) -> list[str]:
        """Names of what is to be pasted, the first one if it is given among them."""
        count = int(rng.integers(1, self.source.draw.kinds + 1))
        first = self._name(rng) if first is None else first
        return list(dict.fromkeys([first, *(self._name(rng) for _ in range(count - 1))]))

    def draw(self, names: Sequence[str], side: int, rng: np.random.Generator) -> Composite:
        """A composite of kinds of objects, (side, side) pixels."""
        return compose(self.cutouts, self._ground(side, rng), names, self.source.draw, rng)

    def _name(self, rng: np.random.Generator) -> str:
        return self.cutouts.names[int(rng.choice(len(self._weights), p=self._weights))]

    def _ground(self, side: int, rng: np.random.Generator) -> Composite:
        if self.backgrounds and (not self.grounds or rng.random() < self.source.on_backgrounds):
            path = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            return Composite.empty(_window(load_image(path).pixels, side, rng))
        dataset = self.grounds[int(rng.integers(len(self.grounds)))]
        image = dataset[int(rng.integers(len(dataset)))]
        whole = square_pixels(load_image(image.path).pixels, side).permute(1, 2, 0).numpy()
        rows = (np.arange(side) * image.height) // side
        columns = (np.arange(side) * image.width) // side
        names, masks = [], []
        for name, objects in image.phrases.items():
            for it in objects:
                mask = it.decode(image.height, image.width)
                if mask is None:
                    raise DataError(f"{image.path}: an object of what is pasted on has no mask")
                names.append(name)
                masks.append(mask[rows][:, columns])
        return Composite(whole, names, np.stack(masks)) if masks else Composite.empty(whole)

    def _view(self, composite: Composite, stage: SceneStage, rng: np.random.Generator) -> AnnotatedView:
        pixels = torch.from_numpy(composite.pixels).permute(2, 0, 1).contiguous()
        masks = torch.from_numpy(composite.masks)
        phrases: dict[str, list[int]] = {}
        for number, name in enumerate(composite.names):
            phrases.setdefault(name, []).append(number)
        prepared = PreparedImage(
            pixels=recoloured(pixels, self.config.augment.colour, rng),
            boxes_xyxy=mask_boxes(masks),
            size_hw=(1.0, 1.0),
            masks=covered(masks, stage.mask_size),
            has_mask=torch.ones(len(composite.names), dtype=torch.bool),
        )
        # What nobody can tell apart from something that lies there is not asked for.
        doubtful = {
            name
            for name in phrases
            if any(self.asker.names.true(name, other) is None for other in phrases if other != name)
        }
        view = AnnotatedView(prepared, {n: its for n, its in phrases.items() if n not in doubtful}, [])
        self.asker.complete(view, [], True, ())
        view.absent = self.asker.names.surely_absent(view.absent, list(phrases))
        return view


def composite_pairs(
    source: CompositeSource, config: MixtureConfig, opened: Opened, names: Names
) -> CompositePairs:
    """The composites of a source by themselves, to look at."""
    return CompositePairs(source, config, opened, PhotographQuestions(config, names, [], []))


def _window(pixels: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """A window of a picture of half its side or more, mirrored now and then, (side, side, 3)."""
    height, width = pixels.shape[:2]
    share = rng.uniform(0.5, 1.0)
    h, w = max(1, int(height * share)), max(1, int(width * share))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    window = np.ascontiguousarray(pixels[top : top + h, left : left + w])
    if rng.random() < 0.5:
        window = np.ascontiguousarray(window[:, ::-1])
    square: Pixels = square_pixels(window, side).permute(1, 2, 0).numpy()
    return square

"""Training batches from several sources at once: drawn scenes, labelled photographs, composites of them.

Every source labels only what it labels. So a name is asked as absent only where the source says so, or where
it is sure from what is there (`names.yaml`); objects without a mask are compared by their boxes.

Images come in pairs of one source, so that a box on one may name something in the other. What a batch holds
is determined by (seed, step) alone, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch

from conceptseg.data.absent_words import AbsentWords
from conceptseg.data.annotated_view import AnnotatedView, view_image
from conceptseg.data.batch import Batch, Question, RegionPhrases
from conceptseg.data.collate import PreparedImage, collate_images
from conceptseg.data.composites import Composite, CompositeConfig, compose, covered, mask_boxes
from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.concept_questions import AskConfig, Questioner
from conceptseg.data.cutouts import Cutouts
from conceptseg.data.foreign_words import foreign_words
from conceptseg.data.names import Names
from conceptseg.data.region_names import join_regions, named_regions
from conceptseg.data.region_phrases import collect_region_phrases
from conceptseg.data.scene_batches import SceneDataConfig, SceneStage, prepared_scene, small_masks
from conceptseg.data.scene_questions import QuestionMaker
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.data.scenes.phrases import vocabulary
from conceptseg.data.view import AugmentConfig, draw_view, recoloured
from conceptseg.errors import ConfigError, DataError
from conceptseg.images import Pixels, load_image, square_pixels
from conceptseg.models.text.tokenizer import Tokenizer

TRAIN = "train"
PICTURES = (".jpg", ".jpeg", ".png")
WHOLE = (0.85, 1.0)  # sides of what is seen of an image that is shown nearly whole, as shares of its own


@dataclass(frozen=True)
class SceneSource:
    """Procedural scenes; how they are drawn is the stage's to say."""

    kind: Literal["scenes"] = "scenes"
    share: float = 1.0


@dataclass(frozen=True)
class PhotographSource:
    """A labelled dataset."""

    kind: Literal["photographs"] = "photographs"
    path: str = ""  # its folder, below `data.root`
    share: float = 1.0
    split: str = TRAIN
    everything: bool = False  # all of its names are labelled wherever they are true: the others are absent
    narrow: bool = False  # name things as the data does, not by wider words: not all of those are labelled

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("a source of photographs needs a path")


@dataclass(frozen=True)
class CompositeSource:
    """Objects cut out of labelled datasets, pasted on other pictures."""

    kind: Literal["composites"] = "composites"
    share: float = 1.0
    cutouts: tuple[str, ...] = ()  # datasets with masks, below `data.root`
    grounds: tuple[str, ...] = ()  # datasets whose pictures are pasted on, what they show among it
    backgrounds: str | None = None  # folder of pictures without annotations
    on_backgrounds: float = 0.6  # share of the composites on those; the others are on `grounds`
    split: str = TRAIN
    smallest_cutout: int = 40  # shorter side of an object in its photograph, in pixels
    draw: CompositeConfig = field(default_factory=CompositeConfig)

    def __post_init__(self) -> None:
        if not self.cutouts or not (self.grounds or self.backgrounds):
            raise ConfigError("composites need cutouts, and grounds or backgrounds to paste them on")
        if not 0 <= self.on_backgrounds <= 1:
            raise ConfigError(f"on_backgrounds is {self.on_backgrounds}; give a share from 0 to 1")


AnySource: TypeAlias = SceneSource | PhotographSource | CompositeSource


@dataclass(frozen=True)
class MixtureConfig(SceneDataConfig):
    """The stages and questions of `SceneDataConfig`, and where images come from; no source: scenes alone."""

    root: str = ""  # folder that the paths of sources are relative to
    sources: tuple[AnySource, ...] = ()
    names: str | None = None  # table of names; None: the packaged one
    foreign_share: float = 0.2  # of the absent phrases of photographs: words that no source shows
    kin_share: float = 0.35  # likewise: names of the same family as something that is there
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(windows=0.5, smallest_window=0.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sources and sum(source.share for source in self.sources) <= 0:
            raise ConfigError("the shares of data.sources must not all be zero")
        if any(source.share < 0 for source in self.sources):
            raise ConfigError("the share of a source must be 0 or more")
        for name in ("foreign_share", "kin_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; give a share from 0 to 1")

    @property
    def draws_scenes(self) -> bool:
        return not self.sources or any(isinstance(source, SceneSource) for source in self.sources)

    def folder(self, path: str) -> Path:
        return Path(self.root).expanduser() / path


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


class MixedBatches:
    """Batch `step` of a run, for one of several processes that each take their share of the images."""

    def __init__(
        self,
        config: MixtureConfig,
        tokenizer: Tokenizer,
        seed: int,
        process: int = 0,
        processes: int = 1,
        held_out: bool = False,
    ) -> None:
        """Args:
        config: sources and stages.
        tokenizer: of the model.
        seed: of the run.
        process: number of this one.
        processes: that train together.
        held_out: scenes and photographs that are not trained on.

        Raises:
            DataError: a source cannot be read.
            ConfigError: the table of names cannot be.
        """
        self.config, self.tokenizer, self.seed = config, tokenizer, seed
        self.process, self.processes = process, processes
        self.workers = config.workers
        self.names = Names() if config.names is None and not config.sources else read_names(config)
        opened = Opened(config, held_out)
        known = mixture_vocabulary(config, self.names, opened)
        self.foreign = foreign_words([*known, *vocabulary()], "train") if opened.datasets else []
        self.all_names = sorted({name for dataset in opened.datasets.values() for name in dataset.phrases})
        asker = PhotographQuestions(config, self.names, self.all_names, self.foreign)
        self.sources: list[Source] = [
            _source(source, config, opened, asker, seed, held_out) for source in config.sources
        ]
        shares = np.array([source.share for source in config.sources])
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        stage, progress = self.config.stage_of(step)
        easy, hard = stage.difficulty
        centre = easy + (hard - easy) * progress
        count = stage.images // 2
        first = (step * self.processes + self.process) * count
        pairs = []
        for number in range(first, first + count):
            rng = np.random.default_rng((self.seed, 86028121, number))
            source = self.sources[int(rng.choice(len(self.sources), p=self._shares))]
            difficulty = float(np.clip(centre - 0.4 * rng.random() ** 2, 0.0, 1.0))
            pairs.append(source.pair(number, stage, difficulty, rng))
        images = [image for pair in pairs for image in pair.images]
        questions = [
            _moved(question, 2 * place) for place, pair in enumerate(pairs) for question in pair.questions
        ]
        batch = collate_images(images, questions, self.tokenizer)
        if stage.naming:
            rng = np.random.default_rng((self.seed, 7919, step, self.process))
            batch.regions = self._regions(pairs, stage, rng)
        return batch

    def side(self, step: int) -> int:
        """Side in pixels of a step's images."""
        return self.config.stage_of(step)[0].resolution

    def _regions(
        self, pairs: Sequence[AskedPair], stage: SceneStage, rng: np.random.Generator
    ) -> RegionPhrases:
        """The objects of all images against names and phrases."""
        scenes = [(2 * p + i, scene) for p, pair in enumerate(pairs) for i, scene in enumerate(pair.scenes)]
        photographs = [
            (2 * p + i, image, pair.names[i])
            for p, pair in enumerate(pairs)
            if pair.names is not None
            for i, image in enumerate(pair.images)
        ]
        found = named_regions(
            photographs, self.names, self.all_names, self.foreign, self.tokenizer, stage.naming, rng
        )
        if not scenes:
            return found
        drawn = collect_region_phrases(
            [scene for _, scene in scenes],
            [small_masks(scene, stage.mask_size) for _, scene in scenes],
            self.tokenizer,
            stage.naming,
            rng,
            stage.questions > 0,
        )
        drawn.image_index = torch.tensor([number for number, _ in scenes])[drawn.image_index]
        return join_regions(drawn, found)


def _moved(question: Question, by: int) -> Question:
    question.image += by
    question.exemplar_image += by
    return question


class Opened:
    """The datasets of a mixture, each opened once."""

    def __init__(self, config: MixtureConfig, held_out: bool) -> None:
        self.held_out = held_out
        self.datasets: dict[Path, ConceptDataset] = {}
        self._config = config
        for source in config.sources:
            if isinstance(source, PhotographSource):
                self.get(source.path, source.split)
            elif isinstance(source, CompositeSource):
                for path in (*source.cutouts, *source.grounds):
                    self.get(path, source.split)

    def get(self, path: str, split: str) -> ConceptDataset:
        """A dataset below the root; its held-out split where that is wanted."""
        folder = self._config.folder(path)
        if folder not in self.datasets:
            self.datasets[folder] = open_dataset(folder, None if self.held_out else split, absent=0)
        return self.datasets[folder]


def read_names(config: MixtureConfig) -> Names:
    """The mixture's table of names."""
    return Names.read() if config.names is None else Names.read(config.names)


def mixture_vocabulary(config: MixtureConfig, names: Names, opened: Opened | None = None) -> list[str]:
    """Every name that the labelled sources use, and what else these may be called."""
    opened = opened or Opened(config, held_out=False)
    own = {phrase for dataset in opened.datasets.values() for phrase in dataset.phrases}
    if not own:
        return []
    said = {other for name in own for other in names.true_of(name)}
    told = {
        word
        for dataset in opened.datasets.values()
        for number in range(len(dataset))
        for word in dataset[number].absent_phrases
    }
    return sorted({*said, *told, *(names.plural(name) for name in said)})


def _source(
    source: AnySource,
    config: MixtureConfig,
    opened: Opened,
    asker: PhotographQuestions,
    seed: int,
    held_out: bool,
) -> Source:
    if isinstance(source, SceneSource):
        return ScenePairs(config, seed, "held_out" if held_out else TRAIN)
    if isinstance(source, PhotographSource):
        return PhotographPairs(opened.get(source.path, source.split), source, config, asker)
    return CompositePairs(source, config, opened, asker)


def composite_pairs(
    source: CompositeSource, config: MixtureConfig, opened: Opened, names: Names
) -> CompositePairs:
    """The composites of a source by themselves, to look at."""
    return CompositePairs(source, config, opened, PhotographQuestions(config, names, [], []))


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


class PhotographQuestions:
    """What is asked of photographs: by any of their names, and absent names that are surely absent."""

    def __init__(
        self, config: MixtureConfig, names: Names, all_names: Sequence[str], foreign: Sequence[str]
    ) -> None:
        q = config.questions
        ask = AskConfig(q.phrase, q.absent_phrase, q.boxes, q.phrase_and_boxes, q.other_image, q.box_noise)
        self.questioner = Questioner(ask, _Drawn(config, names, all_names, foreign))
        self.names, self.all_names = names, all_names

    def ask(self, views: list[AnnotatedView], image: int, rng: np.random.Generator) -> Question:
        """One question about `views[image]`, its phrase as somebody might say it."""
        question = self.questioner.ask(views, image, rng)
        if question.phrase in views[image].phrases:
            question.phrase = self.names.spoken(question.phrase, len(question.objects), rng)
        elif not question.objects and not question.boxes_xyxy:
            question.phrase = self.names.spoken(question.phrase, 0, rng)
        return question

    def complete(self, view: AnnotatedView, told: Sequence[str], wider: bool, own: Sequence[str]) -> None:
        """Add wider names to what is there, and all names that are surely absent to what is not.

        Args:
            view: is changed.
            told: absent by the data's own word.
            wider: whether wider words name only what is labelled.
            own: names that the data labels wherever they are true; what stands about is absent where it is
                among these alone.
        """
        present = sorted(view.phrases)
        showing = [name for name in present if name not in self.names.everywhere or name in own]
        candidates = [name for name in self.all_names if name in own or name not in self.names.everywhere]
        sure = self.names.surely_absent(candidates, showing) if present else []
        if wider:
            wide: dict[str, set[int]] = {}
            for name in present:
                for word in self.names.true_of(name) - set(self.names.same(name)):
                    wide.setdefault(word, set()).update(view.phrases[name])
            for word, objects in wide.items():
                if word not in view.phrases:
                    view.phrases[word] = sorted(objects)
        view.absent = sorted({*told, *sure} - set(view.phrases))


class _Drawn(AbsentWords):
    """Draws absent names: of the same family, of other things, or of what no source shows."""

    def __init__(
        self, config: MixtureConfig, names: Names, all_names: Sequence[str], foreign: Sequence[str]
    ) -> None:
        super().__init__(list(all_names))
        self._foreign, self._config, self._names = foreign, config, names

    def draw_for(self, view: AnnotatedView, rng: np.random.Generator) -> str:
        kind, index = rng.random(), rng.random()
        words: Sequence[str] = view.absent
        if kind < self._config.foreign_share or not words:
            words = self._foreign or self._things
        elif kind < self._config.foreign_share + self._config.kin_share:
            families = {word for name in view.phrases for word in self._names.broader.get(name, ())}
            kin = [name for name in view.absent if families & self._names.broader.get(name, frozenset())]
            words = kin or words
        return words[int(index * len(words))]


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


def object_names(view: AnnotatedView) -> list[list[str]]:
    """The names of each object of a view."""
    names: list[list[str]] = [[] for _ in view.prepared.boxes_xyxy]
    for name, objects in view.phrases.items():
        for number in objects:
            names[number].append(name)
    return names


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

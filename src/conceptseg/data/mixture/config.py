"""Where the images of a mixture come from, how often, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from conceptseg.data.composites import CompositeConfig
from conceptseg.data.scene_batches import SceneDataConfig
from conceptseg.data.view import AugmentConfig
from conceptseg.errors import ConfigError

TRAIN = "train"


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
    told_share: float = (
        0.0  # likewise: names that the data itself says are absent, which may stand about elsewhere
    )
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(windows=0.5, smallest_window=0.5))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sources and sum(source.share for source in self.sources) <= 0:
            raise ConfigError("the shares of data.sources must not all be zero")
        if any(source.share < 0 for source in self.sources):
            raise ConfigError("the share of a source must be 0 or more")
        for name in ("foreign_share", "kin_share", "told_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; give a share from 0 to 1")

    @property
    def draws_scenes(self) -> bool:
        return not self.sources or any(isinstance(source, SceneSource) for source in self.sources)

    def folder(self, path: str) -> Path:
        return Path(self.root).expanduser() / path

"""What decides the answers: the model, and what is asked of it. All else only decides how fast they come.

A labelling keeps these settings, so that one folder never holds the answers of two.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conceptseg.choices import DedupeMode, PresenceMode
from conceptseg.errors import PromptError
from conceptseg.exemplar import Exemplar
from conceptseg.loading import load
from conceptseg.models.detector import Detector
from conceptseg.prompts import VISUAL, check_phrases, check_thresholds
from conceptseg.segmenter import Segmenter


@dataclass(frozen=True)
class Concept:
    """One category of the labels: a phrase, examples from other images, or both."""

    name: str  # of the category
    text: str | None = None  # None: the examples say it all
    threshold: float = 0.5  # scores above it are kept
    exemplar: Exemplar | None = None  # made by the model that labels

    def __post_init__(self) -> None:
        if self.text is None and self.exemplar is None:
            raise PromptError(f"{self.name!r} asks for nothing; give it a text or examples")
        check_phrases([self.name] if self.text is None else [self.name, self.text])
        check_thresholds(self.threshold, 1)

    @property
    def asked(self) -> str:
        return VISUAL if self.text is None else self.text


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and how it is loaded: the arguments of `load`."""

    name: str = "nano"
    device: str = "auto"
    dtype: str = "auto"
    resolution: int | None = None
    geometry_from: str | None = None
    text_context: int | None = None

    def load(self) -> Segmenter:
        return load(
            self.name,
            device=self.device,
            dtype=self.dtype,
            resolution=self.resolution,
            geometry_from=self.geometry_from,
            text_context=self.text_context,
        )

    def kept(self) -> dict[str, Any]:
        """For later, from whatever folder; on what device and in what numbers it ran is left out."""
        kept = {name: value for name, value in vars(self).items() if name not in ("device", "dtype")}
        for name in ("name", "geometry_from"):
            if kept[name] and os.path.exists(kept[name]):
                kept[name] = os.path.abspath(kept[name])
        return kept


@dataclass(frozen=True)
class LabelSettings:
    """All that the answers depend on."""

    concepts: tuple[Concept, ...]  # in the order of their categories
    model: ModelChoice = field(default_factory=ModelChoice)
    presence: PresenceMode | None = None  # None: as the model's config says
    dedupe: DedupeMode | None = None  # within a phrase; None: as the model's config says
    max_instances: int | None = None  # per phrase
    one_phrase: bool = True  # an object found under several phrases is kept under the best one

    def __post_init__(self) -> None:
        if not self.concepts:
            raise PromptError("nothing was asked; give at least one phrase or example")
        names = [concept.name for concept in self.concepts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PromptError(f"{twice!r} is asked twice; give every phrase once")

    @property
    def names(self) -> list[str]:
        return [concept.name for concept in self.concepts]

    def groups(self) -> list[list[int]]:
        """Numbers of the concepts that are asked together: those that share their examples."""
        groups: dict[int, list[int]] = {}
        for number, concept in enumerate(self.concepts):
            groups.setdefault(id(concept.exemplar), []).append(number)
        return list(groups.values())

    def fingerprint(self, segmenter: Segmenter) -> dict[str, Any]:
        """What a labelling is compared by, entry by entry, when it goes on.

        Args:
            segmenter: of `model`, loaded.
        """
        config = {name: value for name, value in segmenter.config.to_dict().items() if name != "provenance"}
        entries: dict[str, Any] = {
            "model": _weights(segmenter),
            "config of the model": _digest(json.dumps(config, sort_keys=True)),
            "resolution": segmenter.resolution,
            "dtype": str(segmenter.dtype).removeprefix("torch."),
            "presence": self.presence or segmenter.config.presence_mode,
            "dedupe": self.dedupe or segmenter.config.dedupe,
            "most instances": self.max_instances,
            "one phrase per object": self.one_phrase,
            "phrases": self.names,
        }
        for concept in self.concepts:
            entries[f"threshold of {concept.name!r}"] = concept.threshold
            entries[f"text of {concept.name!r}"] = concept.text
            entries[f"examples of {concept.name!r}"] = concept.exemplar and _examples(concept.exemplar)
        return entries


def differences(before: dict[str, Any], now: dict[str, Any]) -> Sequence[str]:
    """What of two fingerprints differs, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)}, now {now.get(name)}" for name in names]


def _weights(segmenter: Segmenter) -> str:
    """The fingerprint of a model passes over presence, on which labels do depend."""
    presence = ""
    if isinstance(segmenter.network, Detector):
        digest = hashlib.sha256()
        for name, parameter in sorted(segmenter.network.named_parameters()):
            if "presence" in name:
                plain = parameter.to_dense() if parameter.is_mkldnn else parameter
                digest.update(plain.detach().float().cpu().numpy().tobytes())
        presence = f"-{digest.hexdigest()[:8]}"
    return segmenter.fingerprint + presence


def _examples(exemplar: Exemplar) -> str:
    return _digest(repr((exemplar.labels, exemplar.tokens.tolist())))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""What photographs and composites are asked: by any of their names, and for what is surely absent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from conceptseg.data.absent_words import AbsentWords
from conceptseg.data.annotated_view import AnnotatedView
from conceptseg.data.batch import Question
from conceptseg.data.concept_questions import Questioner
from conceptseg.data.mixture.config import MixtureConfig
from conceptseg.data.names import Names


class PhotographQuestions:
    """What is asked of photographs: by any of their names, and absent names that are surely absent."""

    def __init__(
        self, config: MixtureConfig, names: Names, all_names: Sequence[str], foreign: Sequence[str]
    ) -> None:
        self.questioner = Questioner(config.questions, _Drawn(config, names, all_names, foreign))
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
        view.told = sorted(set(told) - set(view.phrases))


class _Drawn(AbsentWords):
    """Draws absent names: of what no source shows, the same family, the data's own, or any of all these."""

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
            words = self._names.kin(view.absent, view.phrases) or words
        elif kind < self._config.foreign_share + self._config.kin_share + self._config.told_share:
            words = view.told or words
        return words[int(index * len(words))]

"""What every endpoint asks: the model once it is loaded, encoded images, exemplars, answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import Depends, Request

from conceptseg.errors import OptionError, PromptError
from conceptseg.images import load_image
from conceptseg.prompts import VISUAL, check_boxes, check_phrases, check_thresholds
from conceptseg.result import Result
from conceptseg.segmenter import EncodedImage, Segmenter
from conceptseg.serving.batching import Batcher, Question
from conceptseg.serving.cache import ImageCache, image_id
from conceptseg.serving.exemplars import ExemplarStore
from conceptseg.serving.limits import check_pixels
from conceptseg.serving.logs import logger
from conceptseg.serving.metrics import Metrics
from conceptseg.serving.problems import Problem, busy
from conceptseg.serving.schemas import Examples, Prompt
from conceptseg.serving.settings import Settings

LOADING = 5.0  # seconds after which to ask a service again that is still loading its model


class Service:
    """The state of one running service."""

    def __init__(self, load: Callable[[], Segmenter], model: str, settings: Settings) -> None:
        """Args:
        load: makes the segmenter; called once, in another thread, while `/healthz` answers already.
        model: what the segmenter was loaded from; its last part becomes the model's id.
        settings: limits and permissions.
        """
        self._load = load
        self.model_id = re.sub(r"[^\w.-]", "-", PurePath(model).name) or "model"
        self.settings = settings
        self.metrics = Metrics()
        self.cache = ImageCache(settings.cache_bytes, self.metrics)
        self.exemplars = ExemplarStore(settings.max_exemplars)
        self.failure: BaseException | None = None  # why there is no model
        self.on_failure: Callable[[], None] = lambda: None
        self._segmenter: Segmenter | None = None
        self._batcher: Batcher | None = None
        self._loading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to load the model."""
        self._loading = asyncio.ensure_future(self._load_model())

    async def stop(self) -> None:
        """Finish what was begun."""
        self.metrics.ready.set(0)
        if self._loading is not None:
            await self._loading
        if self._batcher is not None:
            await self._batcher.close()

    async def _load_model(self) -> None:
        try:
            self._segmenter = await asyncio.to_thread(self._load)
        except Exception as error:
            self.failure = error
            self.on_failure()
            return
        self._batcher = Batcher(self._segmenter, self.metrics)
        self.metrics.ready.set(1)
        logger.info("ready", extra={"fields": {"model": self.model_id}})

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._batcher is not None

    @property
    def segmenter(self) -> Segmenter:
        """The model.

        Raises:
            Problem: 503, it is still being loaded.
        """
        if self._segmenter is None:
            raise busy(f"the model {self.model_id} is still being loaded", LOADING)
        return self._segmenter

    @property
    def batcher(self) -> Batcher:
        """What runs it; raises as `segmenter` does."""
        assert self.segmenter and self._batcher is not None  # made together
        return self._batcher

    async def encode(self, content: bytes) -> tuple[str, EncodedImage]:
        """The id and the encoding of an image file.

        Raises:
            ImageError: it cannot be read.
            Problem: it is too large, or the model is not there yet.
        """
        batcher, segmenter = self.batcher, self.segmenter
        key = await asyncio.to_thread(image_id, content)

        async def encode() -> EncodedImage:
            check_pixels(content, self.settings.max_pixels)
            loaded = await asyncio.to_thread(load_image, content)
            return await batcher.run("encode", lambda: segmenter.encode(loaded))

        return key, await self.cache.get_or_encode(key, encode)

    def encoded(self, key: str) -> EncodedImage:
        """An image by its id.

        Raises:
            Problem: 404, it is not, or no longer, kept.
        """
        found = self.cache.get(key)
        if found is None:
            raise Problem(404, f"there is no image {key}; it may have made room for others, so send it again")
        return found

    async def ask(self, key: str, image: EncodedImage, prompt: Prompt) -> list[Result]:
        """One result per phrase.

        Raises:
            ConceptSegError: the prompt is wrong.
            Problem: it is too long, or names an exemplar that is not kept.
        """
        phrases, labels = self._phrases(prompt), None if prompt.labels is None else tuple(prompt.labels)
        self._check_count("boxes", len(prompt.boxes or ()), self.settings.max_boxes)
        check_boxes(prompt.boxes, prompt.labels, image.size_hw)
        concepts = [prompt.exemplar] if isinstance(prompt.exemplar, str) else prompt.exemplar or []
        reading = {name: getattr(prompt, name) for name in ("presence", "dedupe", "max_instances")}
        boxes = tuple(map(tuple, prompt.boxes or ()))
        options: dict[str, Any] = {
            "boxes": prompt.boxes,
            "labels": prompt.labels,
            "exemplar": self.exemplars.pooled(concepts),
            **reading,
        }
        question = Question(
            image=image,
            phrases=phrases,
            thresholds=check_thresholds(prompt.threshold, len(phrases)),
            options=options,
            fits=(key, boxes, labels, tuple(concepts), *reading.values()),
        )
        return await self.batcher.ask(question)

    async def make_exemplar(self, image: EncodedImage, examples: Examples) -> str:
        """The id of a concept of example boxes.

        Raises:
            PromptError: a box or label is wrong.
        """
        segmenter = self.segmenter
        self._check_count("boxes", len(examples.boxes), self.settings.max_boxes)
        made = await self.batcher.run(
            "exemplar", lambda: segmenter.exemplar(image, examples.boxes, examples.labels)
        )
        return self.exemplars.add(made)

    def _phrases(self, prompt: Prompt) -> list[str]:
        if prompt.text is not None:
            phrases = check_phrases(prompt.text)
            self._check_count("phrases", len(phrases), self.settings.max_phrases)
            return phrases
        if not prompt.boxes and not prompt.exemplar:
            raise PromptError("nothing was asked: give text, boxes, an exemplar, or several of them")
        return [VISUAL]

    @staticmethod
    def _check_count(what: str, count: int, most: int) -> None:
        if count > most:
            raise OptionError(f"there are {count} {what}; this service takes at most {most} in one request")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]  # of a request

"""Image and prompt in, `Result` out: the class that most users need.

The image is encoded once, however many phrases are asked of it; phrases run together as one batch.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast, overload

import numpy as np
import torch
from torch import Tensor

from conceptseg.checkpoints.fingerprint import model_fingerprint
from conceptseg.choices import OnError, check_choice
from conceptseg.device import choose_device, choose_dtype, choose_resolution
from conceptseg.errors import ConceptSegError, ImageError, OptionError, PromptError, shown
from conceptseg.exemplar import Exemplar
from conceptseg.images import ImageInput, LoadedImage, load_image, model_input
from conceptseg.models.config import ModelConfig
from conceptseg.models.cpu.rounding import ROUNDED, is_rounded
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.detector import Detector, ImageFeatures
from conceptseg.models.prompts import GeometricPrompt, PromptTokens, join_prompts
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.postprocess import check_finite, read_result
from conceptseg.prompts import (
    VISUAL,
    BoxesInput,
    BoxPrompt,
    LabelsInput,
    box_rows,
    check_boxes,
    check_phrases,
)
from conceptseg.result import Result
from conceptseg.runtime.onnx_detector import OnnxDetector
from conceptseg.segment_options import ReadingOptions, SegmentOptions, check_options, names_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAIRS_AT_ONCE = (
    16  # (image, prompt) pairs in one batch; more phrases run in turns, so that memory stays bounded
)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image after the vision encoder; `segment` takes it in place of the image, any number of times."""

    features: ImageFeatures  # of one image
    image: LoadedImage
    model: str  # fingerprint of the model that encoded it
    resolution: int

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.size_hw


@dataclass(frozen=True)
class _Question:
    """A checked prompt, but for the boxes, which are checked against each image."""

    phrases: list[str]
    several: bool  # the caller gave a list of phrases and gets a list back
    exemplar: Exemplar | None
    reading: ReadingOptions


class Segmenter:
    """Finds every object that a phrase, example boxes, or both mean. Made by `loading.load`.

    Holds no state between calls: one segmenter may be used from several threads.
    """

    def __init__(
        self,
        detector: Detector | OnnxDetector,
        tokenizer: Tokenizer,
        config: ModelConfig,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        resolution: int | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            detector: put into eval mode and moved to `device` (None: it stays where it is); an exported one
                stays on the device that it was opened for.
            tokenizer: of its text encoder.
            config: says how pictures are prepared and presence is read.
            dtype: as for `loading.load`.
            resolution: as for `loading.load`.
        """
        self.config = config
        self.tokenizer = tokenizer
        self.network = detector
        if isinstance(detector, OnnxDetector):
            self.device, self.dtype = torch.device("cpu"), torch.float32  # of what goes in and comes out
            self.resolution = detector.check_options(dtype, resolution)
            self.fingerprint = detector.info.fingerprint
            return
        here = next(detector.parameters()).device
        self.device = here if device is None else choose_device(device)
        self.dtype = choose_dtype(dtype, self.device, sum(p.numel() for p in detector.parameters()))
        if self.dtype != ROUNDED and is_rounded(detector):
            raise OptionError(
                f"the weights of this network were loaded in bfloat16, so it cannot run in {self.dtype}; "
                "load it again with that dtype, or give dtype='bfloat16' here"
            )
        stride = config.architecture.vision.stride
        self.resolution = choose_resolution(resolution, config.preprocessing.resolution, stride)
        self.fingerprint = model_fingerprint(detector)
        detector.to(self.device).eval()
        fast_on_cpu(detector)

    @property
    def detector(self) -> Detector:
        """The torch network.

        Raises:
            OptionError: this segmenter runs an exported one, which has no weights to look at or to train.
        """
        if not isinstance(self.network, Detector):
            raise OptionError(
                "this model was exported to ONNX and can only be asked; load the model it was exported from"
            )
        return self.network

    def trainable(self) -> Detector:
        """The torch network with the weights of its file: for gradients, and for writing it down.

        Raises:
            OptionError: this segmenter can only be asked: its network was exported, or loaded in bfloat16.
        """
        detector = self.detector
        if is_rounded(detector):
            raise OptionError(
                "this model was loaded in bfloat16 and can only be asked; load it with dtype='float32'"
            )
        return detector

    def __repr__(self) -> str:
        name = self.config.provenance.get("name", "model")
        kind = str(self.dtype).removeprefix("torch.")
        where = f"{self.resolution} px, {kind} on {self.device}"
        return f"Segmenter({name}, {where}, fingerprint {self.fingerprint})"

    @overload
    def segment(
        self,
        image: ImageInput | EncodedImage,
        text: str | None = None,
        boxes: BoxesInput | None = None,
        labels: LabelsInput | None = None,
        exemplar: Exemplar | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Result: ...

    @overload
    def segment(
        self,
        image: ImageInput | EncodedImage,
        text: list[str] | tuple[str, ...],
        boxes: BoxesInput | None = None,
        labels: LabelsInput | None = None,
        exemplar: Exemplar | None = None,
        **options: Unpack[SegmentOptions],
    ) -> list[Result]: ...

    @names_options
    def segment(
        self,
        image: ImageInput | EncodedImage,
        text: str | list[str] | tuple[str, ...] | None = None,
        boxes: BoxesInput | None = None,
        labels: LabelsInput | None = None,
        exemplar: Exemplar | None = None,
        **options: Unpack[SegmentOptions],
    ) -> Result | list[Result]:
        """Find every object in one image that the prompt means.

        Args:
            image: path, PIL image, numpy (H, W, 3) uint8, torch (3, H, W) uint8, or an `EncodedImage`.
            text: a phrase, or a list of phrases that share the image pass; None when examples say it all.
            boxes: (M, 4) examples on this image, x0, y0, x1, y1 in pixels; they go with every phrase.
            labels: (M,) 1 = like this, 0 = not like this; None: all 1. Negative boxes alone are accepted, as
                in the official code, but say little without a phrase.
            exemplar: a concept from other images, made by `exemplar`; may be joined with text and boxes.
            threshold: keep scores strictly above this; a number in [0, 1], or one per phrase.
            presence: how the model's belief that the concept is there at all enters the scores: "multiply"
                (official), "ignore", or "calibrated"; None: what the model's config says.
            dedupe: "none" (official), "nms" (drop masks that overlap a better one by more than half), or
                "containment" (drop masks that lie inside a better one); None: what the model's config says.
            max_instances: keep at most this many, the best.
            return_raw: put every raw output into `Result.raw`.

        Returns:
            One `Result`; for a list of phrases a list of them, in order.

        Raises:
            ImageError: the image cannot be used.
            PromptError: nothing was asked, or a phrase, box, label or exemplar is wrong.
            OptionError: an option has an impossible value.
            CheckpointError: the network answers with what is no number; its weights are damaged.
        """
        question = self._question(text, boxes, exemplar, options)
        loaded = image.image if isinstance(image, EncodedImage) else load_image(image)
        examples = check_boxes(boxes, labels, loaded.size_hw)
        encoded = self.encode(image if isinstance(image, EncodedImage) else loaded)
        with self.inference():
            words = self.text_tokens(question.phrases)
            (results,) = self._answer([loaded], encoded.features, [examples], question, words)
        return results if question.several else results[0]

    @names_options
    def segment_many(
        self,
        images: Iterable[ImageInput],
        text: str | list[str] | tuple[str, ...] | None = None,
        boxes: BoxesInput | None = None,
        labels: LabelsInput | None = None,
        exemplar: Exemplar | None = None,
        *,
        batch_size: int = 8,
        on_error: OnError = "raise",
        **options: Unpack[SegmentOptions],
    ) -> Iterator[Result | list[Result] | None]:
        """Ask the same of many images; they go through the vision encoder in batches and are read as they are
        needed.

        Args:
            images: anything `segment` takes, but encoded images; may be a generator.
            boxes: the same pixels in every image, as for a fixed camera. To find one image's examples in
                others, make an `exemplar`.
            batch_size: images per batch.
            on_error: "raise" stops at an image that cannot be read, and names it; "skip" yields None in its
                place.

        The other arguments are those of `segment`.

        Returns:
            Iterator in the order of the images: what `segment` gives for each.

        Raises:
            PromptError, OptionError: at once, before any image is read. Boxes are checked against each image
                in turn.
            ImageError: an image cannot be read; from the iterator, after the results for those before it.
        """
        one = isinstance(images, (np.ndarray, Tensor)) and images.ndim < 4  # else its rows would be asked
        if one or isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):
            raise OptionError(
                "segment_many() takes a list or iterator of images; for a single image use segment()"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(f"batch_size must be a whole number of at least 1; got {shown(batch_size)}")
        batch_size = min(batch_size, sys.maxsize)  # more than islice counts is all of them
        check_choice("on_error", on_error, OnError)
        question = self._question(text, boxes, exemplar, options)
        return self._answer_many(images, boxes, labels, question, batch_size, on_error == "skip")

    def encode(self, image: ImageInput | LoadedImage | EncodedImage) -> EncodedImage:
        """Run the vision encoder, once for any number of prompts.

        Raises:
            ImageError: the image cannot be used, or was encoded by another model or at another resolution.
            CheckpointError: what the model says of it is no finite number.
        """
        if isinstance(image, EncodedImage):
            if (image.model, image.resolution) != (self.fingerprint, self.resolution):
                raise ImageError(
                    f"this image was encoded by model {image.model} at {image.resolution} px; "
                    f"encode it again with this segmenter ({self.fingerprint}, {self.resolution} px)"
                )
            return image
        loaded = load_image(image)
        return EncodedImage(self.encode_pixels([loaded]), loaded, self.fingerprint, self.resolution)

    def exemplar(
        self, image: ImageInput | EncodedImage, boxes: BoxesInput, labels: LabelsInput | None = None
    ) -> Exemplar:
        """Make a concept of example boxes, to be found in other images: `segment(other, exemplar=kind)`.

        Args:
            image: that the boxes are drawn on.
            boxes: (M, 4) x0, y0, x1, y1 in pixels.
            labels: (M,) 1 = like this, 0 = not like this; None: all 1.

        Raises:
            ImageError, PromptError, CheckpointError: as for `segment`.
        """
        loaded = image.image if isinstance(image, EncodedImage) else load_image(image)
        examples = check_boxes(boxes, labels, loaded.size_hw)
        if examples is None:
            raise PromptError("an exemplar needs at least one box, x0, y0, x1, y1 in pixels")
        encoded = self.encode(image if isinstance(image, EncodedImage) else loaded)
        with self.inference():
            made = self._exemplar_tokens(encoded.features, [examples])
        tokens = made.tokens[:, 0][~made.padding_mask[0]]  # (S, D)
        check_finite("exemplar tokens", tokens)
        return Exemplar(
            tokens=tokens.float().cpu().clone(),
            labels=tuple(examples.labels.tolist()),
            model=self.fingerprint,
        )

    def encode_pixels(self, images: Sequence[LoadedImage]) -> ImageFeatures:
        """Pictures of any sizes -> features of I images."""
        mean, std = self.config.preprocessing.mean, self.config.preprocessing.std
        squares = torch.stack([model_input(image.pixels, self.resolution, mean, std) for image in images])
        with self.inference():
            features = self.network.encode_images(squares.to(self.device))
        check_finite("image features", features.levels[-1])
        return features

    def text_tokens(self, phrases: Sequence[str]) -> PromptTokens:
        """K phrases -> (T, K, D); the text encoder sees a bounded number at a time."""
        with self.inference():
            ids = self.tokenizer(phrases).to(self.device)
            parts = [self.network.encode_text(part) for part in torch.split(ids, 4 * PAIRS_AT_ONCE)]
        return PromptTokens(
            torch.cat([part.tokens for part in parts], dim=1),
            torch.cat([part.padding_mask for part in parts]),
        )

    def _question(
        self,
        text: str | list[str] | tuple[str, ...] | None,
        boxes: BoxesInput | None,
        exemplar: Exemplar | None,
        options: SegmentOptions,
    ) -> _Question:
        """Check all that can be checked without an image."""
        if exemplar is not None:
            if not isinstance(exemplar, Exemplar):
                raise PromptError(
                    f"exemplar must be made by Segmenter.exemplar(); got {type(exemplar).__name__}"
                )
            exemplar.check_model(self.fingerprint, self.config.architecture.width)
        if text is None and not box_rows(boxes) and exemplar is None:
            raise PromptError("nothing was asked: give text, boxes, an exemplar, or several of them")
        phrases = [VISUAL] if text is None else check_phrases(text)
        return _Question(
            phrases=phrases,
            several=text is not None and not isinstance(text, str),
            exemplar=exemplar,
            reading=check_options(self.config, len(phrases), options),
        )

    def _answer_many(
        self,
        images: Iterable[ImageInput],
        boxes: BoxesInput | None,
        labels: LabelsInput | None,
        question: _Question,
        batch_size: int,
        skip: bool,
    ) -> Iterator[Result | list[Result] | None]:
        words = self.text_tokens(question.phrases)
        numbered = enumerate(images)
        while batch := list(islice(numbered, batch_size)):
            loaded: list[LoadedImage | None] = []  # None: could not be read, and may be skipped
            examples: list[BoxPrompt | None] = []  # of the readable ones
            problem: ConceptSegError | None = None
            for number, image in batch:
                try:
                    opened = _open_for_many(image, f"images[{number}]")
                    examples.append(check_boxes(boxes, labels, opened.size_hw, opened.name))
                    loaded.append(opened)
                except (ImageError, PromptError) as error:
                    if not (skip and isinstance(error, ImageError)):
                        problem = error  # raised below, after the answers for the images before this one
                        break
                    loaded.append(None)
            readable = [image for image in loaded if image is not None]
            answers: Iterator[list[Result]] = iter(())
            if readable:
                with self.inference():
                    features = self.encode_pixels(readable)
                    answers = iter(self._answer(readable, features, examples, question, words))
            for one in loaded:
                if one is None:
                    yield None
                else:
                    results = next(answers)
                    yield results if question.several else results[0]
            if problem is not None:
                raise problem

    def _answer(
        self,
        images: Sequence[LoadedImage],
        features: ImageFeatures,
        examples: Sequence[BoxPrompt | None],
        question: _Question,
        words: PromptTokens,
    ) -> list[list[Result]]:
        """Every phrase asked of every image, in batches of pairs: one list of results per image."""
        shown = self._shown_tokens(features, examples, question.exemplar)  # (S, I, D)
        pairs = [(i, k) for i in range(len(images)) for k in range(len(question.phrases))]
        results: list[list[Result]] = [[] for _ in images]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            batch = pairs[start : start + PAIRS_AT_ONCE]
            image_index = torch.tensor([i for i, _ in batch], device=self.device)
            phrase_index = torch.tensor([k for _, k in batch], device=self.device)
            prompt = join_prompts(words.of(phrase_index), shown.of(image_index))
            detect = self.network.raw if question.reading.return_raw else self.network.detect
            output = detect(features, image_index, prompt)
            for pair, (i, k) in enumerate(batch):
                result = read_result(
                    output,
                    pair,
                    phrase=question.phrases[k],
                    image=images[i],
                    threshold=question.reading.thresholds[k],
                    options=question.reading,
                    examples=examples[i],
                )
                results[i].append(result)
        return results

    def _shown_tokens(
        self, features: ImageFeatures, examples: Sequence[BoxPrompt | None], exemplar: Exemplar | None
    ) -> PromptTokens:
        """The part of the prompt that is not words: (S, I, D).

        A foreign exemplar brings its own closing token, which then stands in for that of an image without
        boxes.
        """
        if exemplar is None:
            return self._exemplar_tokens(features, examples)
        foreign = exemplar.to_model(len(examples), self.device)
        if examples[0] is None:
            return foreign
        return join_prompts(self._exemplar_tokens(features, examples), foreign)

    def _exemplar_tokens(self, features: ImageFeatures, examples: Sequence[BoxPrompt | None]) -> PromptTokens:
        """Boxes of every image -> (M + 1, I, D); without boxes the closing token alone, as officially."""
        image_index = torch.arange(len(examples), device=self.device)
        given = [boxes.to_model(self.device) for boxes in examples if boxes is not None]
        if not given:
            return self.network.encode_exemplars(features, None, image_index)
        # All images are asked with the same boxes, so each has the same number of them.
        geometry = GeometricPrompt(
            boxes_cxcywh=torch.cat([cast(Tensor, prompt.boxes_cxcywh) for prompt in given]),
            box_labels=torch.cat([cast(Tensor, prompt.box_labels) for prompt in given]),
        )
        return self.network.encode_exemplars(features, geometry, image_index)

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """What every call of the network runs in: no gradients, and autocast when the dtype is a half one."""
        with torch.inference_mode(), self.autocast():
            yield

    def autocast(self) -> torch.autocast:
        """The number type of this segmenter, for calls of the network that need `torch.no_grad` instead."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)


def _open_for_many(image: ImageInput, name: str) -> LoadedImage:
    if isinstance(image, EncodedImage):
        raise OptionError(
            f"{name} is already encoded; segment_many() takes images, segment() takes encoded ones"
        )
    return load_image(image, name)

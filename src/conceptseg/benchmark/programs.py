"""The two programs that are measured, behind one interface: stage by stage, and as users call them.

`transformers` answers further phrases on one image from the vision features of the first, which is its
fastest documented way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from conceptseg.benchmark.clock import StageClock
from conceptseg.choices import Runtime
from conceptseg.errors import MissingDependencyError
from conceptseg.images import load_image, model_input
from conceptseg.loading import load
from conceptseg.models.boxes import cxcywh_to_xyxy
from conceptseg.models.detector import Detector, DetectorOutput
from conceptseg.models.prompts import join_prompts
from conceptseg.postprocess import read_result
from conceptseg.segment_options import check_options
from conceptseg.segmenter import Segmenter

STAGES = ("preprocess", "vision", "text", "exemplar", "fusion", "decoder", "masks", "postprocess")
Arrays = dict[str, "npt.NDArray[np.float32]"]


class Program(Protocol):
    """What is measured."""

    name: str
    device: torch.device

    def stages(self, image: Path, phrase: str) -> dict[str, float]:
        """Seconds per stage of one phrase on one image."""

    def answer(self, image: Path, phrases: Sequence[str]) -> None:
        """From file to masks at the image's size, as a user calls it."""

    def raw(self, image: Path, phrase: str) -> Arrays:
        """class_logits (N,), boxes_xyxy (N, 4) in 0..1, presence_logits (1,), mask_logits (N, h, w)."""


class Ours:
    """This library, in torch, ONNX Runtime or OpenVINO."""

    name = "conceptseg"

    def __init__(self, model: str | Path, device: str, dtype: str, runtime: Runtime = "auto") -> None:
        self.segmenter: Segmenter = load(model, device=device, dtype=dtype, runtime=runtime)
        self.device = self.segmenter.device

    def stages(self, image: Path, phrase: str) -> dict[str, float]:
        segmenter, clock = self.segmenter, StageClock(self.device)
        network = segmenter.network
        settings = segmenter.config.preprocessing
        index = torch.zeros(1, dtype=torch.long, device=self.device)
        options = check_options(segmenter.config, 1, {})
        parts = (
            {"fusion": network.fusion_encoder, "decoder": network.decoder}
            if isinstance(network, Detector)
            else {}  # an exported detector is one piece: all of it counts as masks
        )
        with segmenter.inference(), clock.modules(parts):
            with clock.stage("preprocess"):
                loaded = load_image(image)
                square = model_input(loaded.pixels, segmenter.resolution, settings.mean, settings.std)
                pixels = square[None].to(self.device)
            with clock.stage("vision"):
                features = network.encode_images(pixels)
            with clock.stage("text"):
                words = segmenter.text_tokens([phrase])
            with clock.stage("exemplar"):
                shown = network.encode_exemplars(features, None, index)
            with clock.stage("masks"):
                prompt = join_prompts(words, shown)
                output = _Timed(network.detect(features, index, prompt), clock)

            with clock.stage("postprocess"):
                read_result(
                    output,
                    0,
                    phrase=phrase,
                    image=loaded,
                    threshold=0.5,
                    options=options,
                )
        return clock.seconds

    def answer(self, image: Path, phrases: Sequence[str]) -> None:
        self.segmenter.segment(image, text=list(phrases))

    def raw(self, image: Path, phrase: str) -> Arrays:
        result = self.segmenter.segment(image, text=phrase, return_raw=True)
        raw = result.raw
        assert raw is not None  # asked for
        return _arrays(
            class_logits=raw.class_logits[-1, :, 0],
            boxes_xyxy=cxcywh_to_xyxy(raw.boxes_cxcywh[-1, :, 0].float()),
            presence_logits=raw.presence_logits[-1],
            mask_logits=raw.mask_logits[0],
        )


class Transformers:
    """`Sam3Model` and `Sam3Processor` of Hugging Face, in the number type that they are loaded in."""

    name = "transformers"

    def __init__(self, folder: Path, device: torch.device, dtype: str) -> None:
        try:
            from transformers import Sam3Model, Sam3Processor
        except ImportError as error:
            raise MissingDependencyError(
                "comparing needs the package transformers, version 5 or newer; pip install transformers"
            ) from error
        self.device = device
        self.dtype = getattr(torch, dtype)
        model: Any = Sam3Model.from_pretrained(folder, dtype=self.dtype)
        self.model = model.to(device).eval()
        self.processor: Any = Sam3Processor.from_pretrained(folder)

    def stages(self, image: Path, phrase: str) -> dict[str, float]:
        clock, model = StageClock(self.device), self.model
        parts = {
            "vision": model.vision_encoder,
            "text": model.text_encoder,
            "exemplar": model.geometry_encoder,
            "fusion": model.detr_encoder,
            "decoder": model.detr_decoder,
        }
        with torch.inference_mode(), clock.modules(parts):
            with clock.stage("preprocess"):
                picture = self._open(image)
                inputs = self._inputs(images=picture, text=phrase, **_no_box(picture))
            with clock.stage("masks"):
                output = model(**inputs)
            with clock.stage("postprocess"):
                self._read(output, picture)
        return clock.seconds

    @torch.inference_mode()
    def answer(self, image: Path, phrases: Sequence[str]) -> None:
        picture = self._open(image)
        seen = self.model.get_vision_features(self._inputs(images=picture)["pixel_values"])
        for phrase in phrases:
            inputs = self._inputs(text=phrase)
            self._read(self.model(vision_embeds=seen, **inputs), picture)

    @torch.inference_mode()
    def raw(self, image: Path, phrase: str) -> Arrays:
        picture = self._open(image)
        output = self.model(**self._inputs(images=picture, text=phrase, **_no_box(picture)))
        return _arrays(
            class_logits=output.pred_logits[0],
            boxes_xyxy=output.pred_boxes[0],
            presence_logits=output.presence_logits[0],
            mask_logits=output.pred_masks[0],
        )

    def _open(self, image: Path) -> Any:
        from PIL import Image

        return Image.open(image).convert("RGB")

    def _inputs(self, **given: Any) -> dict[str, Any]:
        inputs = self.processor(**given, return_tensors="pt").to(self.device)
        return {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
            if name != "original_sizes"
        }

    def _read(self, output: Any, picture: Any) -> None:
        sizes = [(picture.height, picture.width)]
        self.processor.post_process_instance_segmentation(output, threshold=0.5, target_sizes=sizes)


class _Timed(DetectorOutput):
    """An output whose masks count for their own stage, wherever they are made."""

    def __init__(self, output: DetectorOutput, clock: StageClock) -> None:
        super().__init__(output.class_logits, output.boxes_cxcywh, output.presence_logits, output.hidden)
        self._output = output
        self._clock = clock

    def masks(self, pair: int, queries: torch.Tensor) -> torch.Tensor:
        with self._clock.stage("masks"):
            return self._output.masks(pair, queries)


def _no_box(picture: Any) -> dict[str, Any]:
    """A padded box: with it `transformers` runs the exemplar encoder for a phrase alone, as officially."""
    return {
        "original_sizes": [(picture.height, picture.width)],
        "input_boxes": [[[0.0, 0.0, 10.0, 10.0]]],
        "input_boxes_labels": [[-10]],
    }


def _arrays(**values: torch.Tensor) -> Arrays:
    return {name: value.detach().float().cpu().numpy() for name, value in values.items()}

"""The promptable concept detector: image and prompt in; masks, boxes, scores and presence out. Read it first.

    pixels ──> vision encoder ─> neck ────────────┬─> fusion encoder ─> decoder ─┬─> scores, boxes, presence
    words ───> text encoder ─────┬──> prompt ─────┘        │                     │
    boxes ───> exemplar encoder ─┘                         └─> mask head <───────┘

Letters: I images, B (image, prompt) pairs, M exemplar boxes, S prompt tokens, HW image tokens, N object
queries, L decoder layers, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conceptseg.models.config import DetectorConfig
from conceptseg.models.decoder import Decoder
from conceptseg.models.exemplar.encoder import ExemplarEncoder
from conceptseg.models.fusion_encoder import FusionEncoder
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.models.mask_head import MaskHead
from conceptseg.models.prompts import GeometricPrompt, PromptTokens, join_prompts
from conceptseg.models.scoring import DotProductScoring
from conceptseg.models.text.clip import TextEncoder
from conceptseg.models.text.mobileclip import MobileClipText
from conceptseg.models.vision.neck import Neck


@dataclass
class ImageFeatures:
    """What is computed once per image and shared by all of its prompts."""

    levels: list[Tensor]  # finest first, each (I, D, h, w); the detector reads the last
    positions: list[Tensor]  # one (D, h, w) per level
    trunk: list[Tensor]  # maps of the vision encoder before the neck, each (I, C, h, w)

    def of(self, image_index: Tensor) -> list[Tensor]:
        """The levels of each pair's image, (B, D, h, w); a single image is shared, not copied."""
        if self.levels[0].shape[0] == 1:
            return [level.expand(image_index.shape[0], -1, -1, -1) for level in self.levels]
        return [level[image_index] for level in self.levels]


@dataclass
class UndecodedPixels:
    """What the pixel decoder reads, kept until somebody wants the masks of a pair."""

    image: ImageFeatures
    image_index: Tensor  # (B,) long
    memory: Tensor  # (HW, B, D) of the last level
    prompt: PromptTokens


@dataclass
class OneToManyOutput:
    """What the auxiliary queries of training say; several of them may answer for one object."""

    class_logits: Tensor  # (L, N, B)
    boxes_cxcywh: Tensor  # (L, N, B, 4)
    mask_logits: Tensor | None  # (B, N, h, w), last layer


@dataclass
class Intermediates:
    """Every tensor between the parts, for diagnosis, distillation and figures."""

    trunk: list[Tensor]  # each (I, C, h, w)
    levels: list[Tensor]  # each (I, D, h, w)
    prompt: Tensor  # (S, B, D), words then exemplars
    prompt_padding_mask: Tensor  # (B, S), True = padding
    memory: Tensor  # (HW, B, D)
    memory_padding_mask: Tensor | None  # (B, HW), True = padding
    memory_positions: Tensor  # (HW, 1, D)
    level_start_index: Tensor  # (levels,)
    spatial_shapes: Tensor  # (levels, 2)
    valid_ratios: Tensor  # (B, levels, 2)
    hidden_states: Tensor  # (L, N, B, D)
    reference_boxes: Tensor  # (L, N, B, 4)
    presence_logits: Tensor  # (L, B)
    presence_feature: Tensor  # (1, B, D)
    text: PromptTokens | None = None  # (T, B, D); filled by `forward`, which knows the parts of the prompt
    exemplars: PromptTokens | None = None  # (P + M + 1, B, D); likewise


@dataclass
class DetectorOutput:
    """Raw outputs; a query's score is sigmoid(class logit) x sigmoid(presence logit) of the last layer."""

    class_logits: Tensor  # (L, N, B), before presence
    boxes_cxcywh: Tensor  # (L, N, B, 4) in 0..1
    presence_logits: Tensor  # (L, B)
    mask_logits: Tensor | None  # (B, N, h, w) of the last layer; None when masks were not asked for
    semantic_logits: Tensor | None  # (B, 1, h, w)
    hidden: Tensor  # (N, B, D), last layer: with `pixels` it gives the masks of chosen queries
    pixels: Tensor | None  # (B, D, h, w) decoded pixel features
    one_to_many: OneToManyOutput | None = None
    intermediates: Intermediates | None = None
    undecoded: UndecodedPixels | None = None  # in place of `pixels`, where they are decoded when needed


class Detector(nn.Module):
    """The network; `build_detector` makes one from a config."""

    def __init__(
        self,
        config: DetectorConfig,
        vision_encoder: nn.Module,
        neck: Neck,
        text_encoder: TextEncoder | MobileClipText,
        exemplar_encoder: ExemplarEncoder,
        fusion_encoder: FusionEncoder,
        decoder: Decoder,
        scoring: DotProductScoring,
        mask_head: MaskHead,
    ) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = vision_encoder
        self.neck = neck
        self.text_encoder = text_encoder
        self.exemplar_encoder = exemplar_encoder
        self.fusion_encoder = fusion_encoder
        self.decoder = decoder
        self.scoring = scoring
        self.mask_head = mask_head

    def forward(
        self,
        pixels: Tensor,
        token_ids: Tensor,
        geometry: GeometricPrompt | None = None,
        image_index: Tensor | None = None,
        return_intermediates: bool = False,
    ) -> DetectorOutput:
        """Find what each prompt asks for.

        Args:
            pixels: (I, 3, H, W), normalised.
            token_ids: (B, T) long, one phrase per pair, 0 = padding.
            geometry: boxes and points of the B pairs; None for words alone.
            image_index: (B,) long, the image of each pair; None when I = B or I = 1.
            return_intermediates: also return every tensor between the parts.
        """
        image = self.encode_images(pixels)
        if image_index is None:
            image_index = torch.arange(token_ids.shape[0], device=pixels.device) % pixels.shape[0]
        text = self.encode_text(token_ids)  # (T, B, D)
        exemplars = self.encode_exemplars(image, geometry, image_index)  # (P + M + 1, B, D)
        output = self.detect(image, image_index, join_prompts(text, exemplars), return_intermediates)
        if output.intermediates is not None:
            output.intermediates.text, output.intermediates.exemplars = text, exemplars
        return output

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """(I, 3, H, W) normalised pixels -> levels of width D, finest first."""
        trunk = self.vision_encoder(pixels)  # each (I, C, h, w)
        levels = self.neck(trunk)  # each (I, D, h, w)
        sizes = [level.shape[-2:] for level in levels]
        positions = [sine_of_map(h, w, self.config.width, pixels.device) for h, w in sizes]
        return ImageFeatures(levels, positions, trunk)

    def encode_text(self, token_ids: Tensor) -> PromptTokens:
        """(B, T) token ids -> (T, B, D)."""
        return self.text_encoder(token_ids)

    def encode_exemplars(
        self, image: ImageFeatures, geometry: GeometricPrompt | None, image_index: Tensor
    ) -> PromptTokens:
        """Boxes and points on each pair's image -> (P + M + 1, B, D); without any, only the summary token."""
        return self.exemplar_encoder(image.levels[-1], image.positions[-1], image_index, geometry)

    def detect(
        self,
        image: ImageFeatures,
        image_index: Tensor,
        prompt: PromptTokens,
        return_intermediates: bool = False,
        with_masks: bool = True,
        with_pixels: bool = True,
    ) -> DetectorOutput:
        """Everything after the encoders.

        Args:
            image: of I images.
            image_index: (B,) long.
            prompt: (S, B, D): words and exemplars.
            return_intermediates: also return every tensor between the parts.
            with_masks: False leaves `mask_logits` and `semantic_logits` None; `chosen_masks` makes those of
                chosen queries later.
            with_pixels: False, without masks, leaves `pixels` None too: `chosen_masks` then decodes them pair
                by pair, and not for pairs without a chosen query.
        """
        fused = self.config.fusion.levels
        fusion = self.fusion_encoder(
            image.levels[-fused:], image.positions[-fused:], prompt, image_index=image_index
        )  # .memory (HW, B, D)
        height, width = image.levels[-1].shape[-2:]
        decoded = self.decoder(fusion, (height, width))  # .hidden (L, N, B, D)
        class_logits = self.scoring(decoded.hidden, prompt)  # (L, N, B)
        undecoded = UndecodedPixels(image, image_index, fusion.memory[-height * width :], prompt)
        pixels = self._decode(undecoded) if with_masks or with_pixels else None  # (B, D, h, w)
        to_mask = pixels if with_masks else None
        output = DetectorOutput(
            class_logits=class_logits,
            boxes_cxcywh=decoded.boxes_cxcywh,
            presence_logits=decoded.presence_logits,
            mask_logits=None
            if to_mask is None
            else self.mask_head.instance_logits(to_mask, decoded.hidden[-1]),
            semantic_logits=None if to_mask is None else self.mask_head.semantic_logits(to_mask),
            hidden=decoded.hidden[-1],
            pixels=pixels,
            undecoded=undecoded if pixels is None else None,
        )
        if decoded.one_to_many is not None:
            many = decoded.one_to_many
            output.one_to_many = OneToManyOutput(
                class_logits=self.scoring(many.hidden, prompt),
                boxes_cxcywh=many.boxes_cxcywh,
                mask_logits=None
                if to_mask is None
                else self.mask_head.instance_logits(to_mask, many.hidden[-1]),
            )
        if return_intermediates:
            output.intermediates = Intermediates(
                trunk=image.trunk,
                levels=image.levels,
                prompt=prompt.tokens,
                prompt_padding_mask=prompt.padding_mask,
                memory=fusion.memory,
                memory_padding_mask=fusion.padding_mask,
                memory_positions=fusion.positions,
                level_start_index=fusion.level_start_index,
                spatial_shapes=fusion.spatial_shapes,
                valid_ratios=fusion.valid_ratios,
                hidden_states=decoded.hidden,
                reference_boxes=decoded.reference_boxes,
                presence_logits=decoded.presence_logits,
                presence_feature=decoded.presence_feature,
            )
        return output

    def chosen_masks(self, output: DetectorOutput, pair: int, queries: Tensor) -> Tensor:
        """Mask logits of some queries of one pair, made now unless all were asked for.

        Args:
            output: of `detect`, with or without masks.
            pair: number in the batch.
            queries: (K,) long, numbers of queries; K may be 0.

        Returns:
            (K, h, w).
        """
        if output.mask_logits is not None:
            return output.mask_logits[pair, queries.to(output.mask_logits.device)]
        if not len(queries):
            made_of = output.pixels if output.undecoded is None else output.undecoded.image.levels[0]
            assert made_of is not None  # `detect` leaves one of the two
            return made_of.new_zeros(0, *made_of.shape[-2:])
        one = slice(pair, pair + 1)
        if output.pixels is None:
            assert output.undecoded is not None
            pixels = self._decode(output.undecoded, one)
        else:
            pixels = output.pixels[one]  # (1, D, h, w)
        hidden = output.hidden[queries.to(output.hidden.device), pair : pair + 1]  # (K, 1, D)
        return self.mask_head.instance_logits(pixels, hidden)[0]

    def _decode(self, undecoded: UndecodedPixels, pairs: slice = slice(None)) -> Tensor:
        """Pixel features of some pairs, (B, D, h, w)."""
        return self.mask_head.pixels(
            undecoded.image.of(undecoded.image_index[pairs]),
            undecoded.memory[:, pairs],
            undecoded.prompt.of(pairs),
        )

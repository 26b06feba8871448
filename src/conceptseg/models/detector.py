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
from conceptseg.models.decoder import Decoder, DecoderOutput
from conceptseg.models.exemplar.encoder import ExemplarEncoder
from conceptseg.models.fusion_encoder import FusionEncoder, FusionOutput
from conceptseg.models.layers.positions import sine_of_map
from conceptseg.models.mask_head import MaskHead, QueryMasks
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
class PixelSource:
    """What the pixel decoder reads, kept until somebody wants masks."""

    mask_head: MaskHead
    image: ImageFeatures
    image_index: Tensor  # (B,) long
    memory: Tensor  # (HW, B, D) of the last level
    prompt: PromptTokens

    def decode(self, pairs: slice = slice(None)) -> Tensor:
        """Pixel features of some pairs, (B, D, h, w)."""
        levels = self.image.of(self.image_index[pairs])
        return self.mask_head.pixels(levels, self.memory[:, pairs], self.prompt.of(pairs))


@dataclass
class DetectorOutput:
    """The answers; a query's score is sigmoid(class logit) x sigmoid(presence logit) of the last layer."""

    class_logits: Tensor  # (L, N, B), before presence
    boxes_cxcywh: Tensor  # (L, N, B, 4) in 0..1
    presence_logits: Tensor  # (L, B)
    hidden: Tensor  # (N, B, D), last layer

    def masks(self, pair: int, queries: Tensor) -> Tensor:
        """Mask logits of some queries of one pair.

        Args:
            pair: number in the batch.
            queries: (K,) long, numbers of queries; K may be 0.

        Returns:
            (K, h, w).
        """
        raise NotImplementedError


@dataclass
class RawOutput(DetectorOutput):
    """The answers with every mask multiplied out: what users may look at, and exported graphs give."""

    mask_logits: Tensor  # (B, N, h, w)
    semantic_logits: Tensor  # (B, 1, h, w)
    pixels: Tensor | None = None  # (B, D, h, w) decoded pixel features; an exported graph keeps them

    def masks(self, pair: int, queries: Tensor) -> Tensor:
        return self.mask_logits[pair, queries.to(self.mask_logits.device)]

    def of(self, pair: int) -> RawOutput:
        """The same for a batch of one."""
        one = slice(pair, pair + 1)
        return RawOutput(
            class_logits=self.class_logits[:, :, one],
            boxes_cxcywh=self.boxes_cxcywh[:, :, one],
            presence_logits=self.presence_logits[:, one],
            hidden=self.hidden[:, one],
            mask_logits=self.mask_logits[one],
            semantic_logits=self.semantic_logits[one],
            pixels=None if self.pixels is None else self.pixels[one],
        )


@dataclass
class Detections(DetectorOutput):
    """The answers, masks made when they are asked for: pixels are decoded for no pair that shows nothing."""

    source: PixelSource

    def masks(self, pair: int, queries: Tensor) -> Tensor:
        if not len(queries):
            finest = self.source.image.levels[0]
            return finest.new_zeros(0, *finest.shape[-2:])
        one = slice(pair, pair + 1)
        hidden = self.hidden[queries.to(self.hidden.device), one]  # (K, 1, D)
        return self.source.mask_head.instance_logits(self._pixels_of(one), hidden)[0]

    def _pixels_of(self, pairs: slice) -> Tensor:
        return self.source.decode(pairs)


@dataclass
class OneToManyOutput:
    """What the auxiliary queries of training say; several of them may answer for one object."""

    class_logits: Tensor  # (L, N, B)
    boxes_cxcywh: Tensor  # (L, N, B, 4)
    query_masks: QueryMasks  # last layer


@dataclass
class DetectorTrace(Detections):
    """The answers and all that lies between image and answer, for training, distillation and study.

    Pixels and what is made of them are computed when they are first read, and kept: read them where the
    network ran, in the same autocast.
    """

    fusion: FusionOutput  # .memory (HW, B, D), what it was fused from, and where its tokens lie
    decoded: DecoderOutput  # .hidden (L, N, B, D), .reference_boxes, .presence_feature, ...
    text: PromptTokens | None = None  # (T, B, D); filled by `answer`, which knows the parts of the prompt
    exemplars: PromptTokens | None = None  # (P + M + 1, B, D); likewise
    many_class_logits: Tensor | None = None  # (L, N, B) of the auxiliary queries of training
    _pixels: Tensor | None = None
    _query_masks: QueryMasks | None = None
    _semantic_logits: Tensor | None = None

    @property
    def image(self) -> ImageFeatures:
        """The trunk's maps and the levels."""
        return self.source.image

    @property
    def pixels(self) -> Tensor:
        """Decoded pixel features, (B, D, h, w)."""
        if self._pixels is None:
            self._pixels = self.source.decode()
        return self._pixels

    @property
    def query_masks(self) -> QueryMasks:
        """The masks of all queries, one product away."""
        if self._query_masks is None:
            self._query_masks = self.source.mask_head.query_masks(self.pixels, self.hidden)
        return self._query_masks

    @property
    def mask_logits(self) -> Tensor:
        """Mask logits of all queries, (B, N, h, w)."""
        return self.query_masks.all()

    @property
    def semantic_logits(self) -> Tensor:
        """Is a pixel part of any instance? (B, 1, h, w)."""
        if self._semantic_logits is None:
            self._semantic_logits = self.source.mask_head.semantic_logits(self.pixels)
        return self._semantic_logits

    @property
    def one_to_many(self) -> OneToManyOutput | None:
        """The auxiliary queries; None outside training, and where the decoder is built without them."""
        many = self.decoded.one_to_many
        if many is None or self.many_class_logits is None:
            return None
        masks = self.source.mask_head.query_masks(self.pixels, many.hidden[-1])
        return OneToManyOutput(self.many_class_logits, many.boxes_cxcywh, masks)

    def raw(self) -> RawOutput:
        """Every mask multiplied out."""
        return RawOutput(
            class_logits=self.class_logits,
            boxes_cxcywh=self.boxes_cxcywh,
            presence_logits=self.presence_logits,
            hidden=self.hidden,
            mask_logits=self.source.mask_head.instance_logits(self.pixels, self.hidden),
            semantic_logits=self.semantic_logits,
            pixels=self.pixels,
        )

    def _pixels_of(self, pairs: slice) -> Tensor:
        return self.source.decode(pairs) if self._pixels is None else self._pixels[pairs]


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
    ) -> DetectorTrace:
        """Find what each prompt asks for.

        Args:
            pixels: (I, 3, H, W), normalised.
            token_ids: (B, T) long, one phrase per pair, 0 = padding.
            geometry: boxes and points of the B pairs; None for words alone.
            image_index: (B,) long, the image of each pair; None when I = B or I = 1.

        Returns:
            The answers and every tensor on the way, with `mask_logits` (B, N, h, w).
        """
        image = self.encode_images(pixels)
        if image_index is None:
            image_index = torch.arange(token_ids.shape[0], device=pixels.device) % pixels.shape[0]
        output = self.answer(image, self.encode_text(token_ids), geometry, image_index)
        _ = output.query_masks, output.semantic_logits  # made here: they are a part of what is compiled
        return output

    def answer(
        self,
        image: ImageFeatures,
        text: PromptTokens,
        geometry: GeometricPrompt | None,
        image_index: Tensor,
        exemplar_index: Tensor | None = None,
    ) -> DetectorTrace:
        """Answer encoded phrases on encoded images.

        Args:
            image: of I images.
            text: (T, B, D).
            geometry: boxes and points of the B pairs; None for words alone.
            image_index: (B,) long, the image that each pair searches.
            exemplar_index: (B,) long, the image that its boxes lie on; None: the same.
        """
        shown_on = image_index if exemplar_index is None else exemplar_index
        exemplars = self.encode_exemplars(image, geometry, shown_on)  # (P + M + 1, B, D)
        output = self.trace(image, image_index, join_prompts(text, exemplars))
        output.text, output.exemplars = text, exemplars
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

    def detect(self, image: ImageFeatures, image_index: Tensor, prompt: PromptTokens) -> Detections:
        """Everything after the encoders, and nothing kept but the answers.

        Args:
            image: of I images.
            image_index: (B,) long.
            prompt: (S, B, D): words and exemplars.
        """
        fusion = self.fuse(image, image_index, prompt)  # .memory (HW, B, D)
        decoded = self.decode(image, fusion)  # .hidden (L, N, B, D)
        return Detections(
            class_logits=self.scoring(decoded.hidden, prompt),  # (L, N, B)
            boxes_cxcywh=decoded.boxes_cxcywh,
            presence_logits=decoded.presence_logits,
            hidden=decoded.hidden[-1],
            source=self._pixel_source(image, image_index, fusion),
        )

    def trace(self, image: ImageFeatures, image_index: Tensor, prompt: PromptTokens) -> DetectorTrace:
        """`detect`, with every tensor between the parts."""
        fusion = self.fuse(image, image_index, prompt)
        decoded = self.decode(image, fusion)
        many = decoded.one_to_many
        return DetectorTrace(
            class_logits=self.scoring(decoded.hidden, prompt),
            boxes_cxcywh=decoded.boxes_cxcywh,
            presence_logits=decoded.presence_logits,
            hidden=decoded.hidden[-1],
            source=self._pixel_source(image, image_index, fusion),
            fusion=fusion,
            decoded=decoded,
            many_class_logits=None if many is None else self.scoring(many.hidden, prompt),
        )

    def raw(self, image: ImageFeatures, image_index: Tensor, prompt: PromptTokens) -> RawOutput:
        """`detect`, with every mask multiplied out."""
        return self.trace(image, image_index, prompt).raw()

    def fuse(self, image: ImageFeatures, image_index: Tensor, prompt: PromptTokens) -> FusionOutput:
        """Image tokens read the prompt."""
        fused = self.config.fusion.levels
        return self.fusion_encoder(
            image.levels[-fused:], image.positions[-fused:], prompt, image_index=image_index
        )

    def decode(self, image: ImageFeatures, fusion: FusionOutput) -> DecoderOutput:
        """Queries and the presence token read the memory."""
        height, width = image.levels[-1].shape[-2:]
        return self.decoder(fusion, (height, width))

    def _pixel_source(self, image: ImageFeatures, image_index: Tensor, fusion: FusionOutput) -> PixelSource:
        height, width = image.levels[-1].shape[-2:]
        memory = fusion.memory[-height * width :]
        return PixelSource(self.mask_head, image, image_index, memory, fusion.prompt)

"""A port with one thing wrong: the check names the stage in which that happens, and nothing before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conceptseg import official_api
from conceptseg.conformance import stages
from conceptseg.conformance.kit import Kit, check
from conceptseg.models import decoder, fusion_encoder, scoring
from conceptseg.models.cpu import modules
from conceptseg.models.detector import Detector
from conceptseg.models.exemplar import encoder
from conceptseg.models.layers import attention
from conceptseg.models.prompts import PromptTokens
from conceptseg.models.text import mobileclip
from conceptseg.models.vision import vit
from tests.conformance.port import answers, open_port

Break = Callable[[Detector, pytest.MonkeyPatch], None]


def epsilon(part: str, eps: float = 1e-6) -> Break:
    """Give every norm of a part another epsilon."""

    def wrong(detector: Detector, patch: pytest.MonkeyPatch) -> None:
        norms = [m for m in detector.get_submodule(part).modules() if hasattr(m, "eps")]
        assert norms
        for norm in norms:
            norm.eps = eps  # type: ignore[assignment]

    return wrong


def tanh_gelu(part: str) -> Break:
    def wrong(detector: Detector, patch: pytest.MonkeyPatch) -> None:
        for module in detector.get_submodule(part).modules():
            if isinstance(module, nn.GELU):
                module.approximate = "tanh"

    return wrong


def reads_padding(part: str) -> Break:
    """Attention into the prompt that takes padding for words."""

    def wrong(detector: Detector, patch: pytest.MonkeyPatch) -> None:
        for module in detector.get_submodule(part).modules():
            if isinstance(module, attention.Attention):
                plain = module.forward

                def unmasked(*args, plain=plain, key_padding_mask=None, **options):  # type: ignore[no-untyped-def]
                    return plain(*args, **options)

                module.forward = unmasked  # type: ignore[method-assign]

    return wrong


def replaced(where: object, name: str, make: Callable[..., object]) -> Break:
    """Another function in place of one of a module; `make` gets the right one."""

    def wrong(detector: Detector, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(where, name, make(getattr(where, name)))

    return wrong


def in_network(change: Callable[[Detector], object]) -> Break:
    def wrong(detector: Detector, patch: pytest.MonkeyPatch) -> None:
        change(detector)

    return wrong


def masks_padding(detector: Detector, patch: pytest.MonkeyPatch) -> None:
    """A text encoder whose attention leaves padding out."""
    asked: list[torch.Tensor] = []
    detector.text_encoder.register_forward_pre_hook(lambda module, given: asked.append(given[0]))
    for module in detector.text_encoder.modules():
        if isinstance(module, attention.Attention):
            plain = module.forward

            def masked(*args, plain=plain, **options):  # type: ignore[no-untyped-def]
                return plain(*args, key_padding_mask=asked[-1] == 0, **options)

            module.forward = masked  # type: ignore[method-assign]


def rotated_in_half(detector: Detector, patch: pytest.MonkeyPatch) -> None:
    """Queries and keys rounded before they are turned, in both forms that there are."""
    for where, name in ((vit, "rotate"), (modules, "rotate_by_complex_product")):
        plain = getattr(where, name)
        patch.setattr(where, name, lambda x, *table, plain=plain: plain(x.bfloat16(), *table).to(x.dtype))


def without_summary(detector: Detector, patch: pytest.MonkeyPatch) -> None:
    """Prompts without boxes go without the summary token, as in `transformers`."""
    plain = detector.encode_exemplars

    def skipping(image, geometry, image_index):  # type: ignore[no-untyped-def]
        made = plain(image, geometry, image_index)
        if geometry.box_padding is None:
            return made
        alone = geometry.box_padding.all(1)
        return PromptTokens(made.tokens, made.padding_mask | alone[:, None])

    patch.setattr(detector, "encode_exemplars", skipping)


def swapped_halves(module: nn.Linear) -> None:
    with torch.no_grad():
        module.weight.copy_(module.weight.roll(module.weight.shape[1] // 2, dims=1))


def resized_probabilities(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    resized = F.interpolate(logits.sigmoid(), (height, width), mode="bilinear", align_corners=False)
    return resized.clamp(1e-6, 1 - 1e-6).logit()


@dataclass(frozen=True)
class Fault:
    what: str
    wrong: Break
    stage: str
    kit: str = "clip"


FAULTS = [
    Fault(
        "pixels not rounded to 8 bits after the resize",
        replaced(stages, "model_input", lambda right: unrounded),
        "pixels",
    ),
    Fault("layer norm epsilon of the trunk", epsilon("vision_encoder"), "trunk.embedding"),
    Fault("layer norm epsilon of one block", epsilon("vision_encoder.blocks.1"), "trunk.blocks.1"),
    Fault(
        "positions interpolated, not tiled",
        replaced(
            vit.VisionTransformer,
            "_tiled_positions",
            lambda right: (
                lambda self, h, w: F.interpolate(
                    self.position_embedding.permute(0, 3, 1, 2), (h, w), mode="bilinear"
                ).permute(0, 2, 3, 1)
            ),
        ),
        "trunk.embedding",
    ),
    Fault("GELU by tanh in the trunk", tanh_gelu("vision_encoder"), "trunk.blocks.0"),
    Fault(
        "rotary tables in bfloat16",
        replaced(
            vit, "axial_rope_table", lambda right: lambda *a: tuple(t.bfloat16().float() for t in right(*a))
        ),
        "trunk.blocks.0",
    ),
    Fault(
        "rotary product in bfloat16",
        rotated_in_half,
        "trunk.blocks.0",
    ),
    Fault(
        "rotary coordinates not squeezed in blocks that see the whole image",
        replaced(
            vit,
            "axial_rope_table",
            lambda right: lambda h, w, c, theta, scale, device: right(h, w, c, theta, 1.0, device),
        ),
        "trunk.blocks.1",
    ),
    Fault(
        "padded tokens of a window masked",
        replaced(vit.Block, "_attend", lambda right: masked_windows),
        "trunk.blocks.0",
    ),
    Fault("GELU by tanh in the neck", tanh_gelu("neck"), "neck.0"),
    Fault("layer norm epsilon of the text encoder", epsilon("text_encoder"), "text.blocks.0"),
    Fault("layer norm epsilon at the end of the text encoder", epsilon("text_encoder.norm"), "text"),
    Fault("GELU by tanh in the text encoder", tanh_gelu("text_encoder"), "text.blocks.0"),
    Fault(
        "text that looks ahead",
        in_network(lambda d: [setattr(block, "causal", False) for block in d.text_encoder.blocks]),
        "text.blocks.0",
    ),
    Fault("padding masked in MobileCLIP", masks_padding, "text.blocks.1", "mobileclip"),
    Fault("layer norm epsilon of MobileCLIP", epsilon("text_encoder"), "text.blocks.0", "mobileclip"),
    Fault("GELU by tanh in MobileCLIP", tanh_gelu("text_encoder"), "text.blocks.1", "mobileclip"),
    Fault(
        "MobileCLIP's table stretched to the phrase, not cut",
        in_network(lambda d: stretched(d.text_encoder)),
        "text.embedding",
        "mobileclip",
    ),
    Fault(
        "ROIAlign with half-pixel alignment",
        replaced(encoder, "cxcywh_to_xyxy", lambda right: lambda boxes: right(boxes) - 0.05),
        "exemplar.regions",
    ),
    Fault(
        "boxes clamped to the image before pooling",
        replaced(encoder, "cxcywh_to_xyxy", lambda right: lambda boxes: right(boxes).clamp(0, 1)),
        "exemplar.regions",
    ),
    Fault("epsilon of the norm before pooling", epsilon("exemplar_encoder.pooling_norm"), "exemplar.regions"),
    Fault(
        "width before height in the position of a box",
        in_network(
            lambda d: d.exemplar_encoder.box_position.weight.data.copy_(
                d.exemplar_encoder.box_position.weight[:, [*range(32), 33, 32]]
            )
        ),
        "exemplar.input",
    ),
    Fault("boxes of padding read", reads_padding("exemplar_encoder"), "exemplar.layers.0"),
    Fault("no summary token without boxes", without_summary, "exemplar.input"),
    Fault("layer norm epsilon of the fusion encoder", epsilon("fusion_encoder"), "fusion.layers.0"),
    Fault(
        "padding of the prompt read in the fusion encoder", reads_padding("fusion_encoder"), "fusion.layers.0"
    ),
    Fault(
        "position of the queries in attention to the prompt",
        replaced(fusion_encoder.FusionLayer, "forward", lambda right: positioned),
        "fusion.layers.0",
    ),
    Fault("layer norm epsilon of the decoder", epsilon("decoder"), "decoder.layers.0.hidden"),
    Fault("padding of the prompt read in the decoder", reads_padding("decoder"), "decoder.layers.0.hidden"),
    Fault(
        "relative positions measured at the middle of a token",
        replaced(decoder, "_log_distance", lambda right: lambda c, s: right(c + 0.05, s)),
        "decoder.layers.0.hidden",
    ),
    Fault(
        "height before width in the reference encoding",
        in_network(lambda d: swapped_sides(d.decoder.reference_head.layers[0])),
        "decoder.layers.0.hidden",
    ),
    Fault(
        "inverse sigmoid with another epsilon",
        replaced(decoder, "inverse_sigmoid", lambda right: lambda x: right(x, 1e-5)),
        "decoder.layers.0.boxes",
    ),
    Fault(
        "presence token with a position",
        replaced(
            decoder.torch,
            "zeros_like",
            lambda right: lambda x, **kind: right(x, **kind) if kind else right(x) + 0.01,
        ),
        "decoder.layers.0.hidden",
    ),
    Fault("epsilon of the presence norm", epsilon("decoder.presence_head"), "decoder.layers.0.presence"),
    Fault(
        "presence clamped to 10",
        in_network(lambda d: setattr(d.decoder.presence_head, "logit_limit", 10.0)),
        "decoder.layers.0.presence",
    ),
    Fault("class logits not clamped", in_network(lambda d: setattr(d.scoring, "logit_limit", None)), "class"),
    Fault(
        "padding pooled for the class score",
        replaced(
            scoring, "PromptTokens", lambda right: lambda tokens, padding: right(tokens, padding & False)
        ),
        "class",
    ),
    Fault("epsilon of the norm of the scoring", epsilon("scoring"), "class"),
    Fault("padding of the prompt read in the mask head", reads_padding("mask_head"), "mask.pixels"),
    Fault("epsilon of the group norms", epsilon("mask_head.norms"), "mask.pixels"),
    Fault(
        "mask head that does not read the prompt",
        in_network(lambda d: d.mask_head.prompt_attention.out_proj.weight.data.zero_()),
        "mask.pixels",
    ),
    Fault(
        "bias of the instance projection left out",
        in_network(lambda d: d.mask_head.instance_projection.bias.data.zero_()),
        "masks",
    ),
    Fault(
        "probabilities resized, not logits",
        replaced(official_api, "_resize", lambda right: resized_probabilities),
        "result.3.masks",
    ),
]


def unrounded(pixels, resolution, mean, std):  # type: ignore[no-untyped-def]
    """Resized as floating-point numbers."""
    chw = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    square = F.interpolate(chw, (resolution, resolution), mode="bilinear", antialias=True)[0]
    return (square / 255 - 0.5) / 0.5


def masked_windows(self: vit.Block, x: torch.Tensor) -> torch.Tensor:
    """Windows at the edge see only their real tokens."""
    if not self.window:
        return self.attention(x)
    done = torch.empty_like(x)
    for top in range(0, x.shape[1], self.window):
        for left in range(0, x.shape[2], self.window):
            rows, columns = slice(top, top + self.window), slice(left, left + self.window)
            done[:, rows, columns] = self.attention(x[:, rows, columns])
    return done


def stretched(text: mobileclip.MobileClipText) -> None:
    table = text.position_embedding.t()[None]
    text.position_embedding.data = F.interpolate(table, text.context_length, mode="linear")[0].t()


def positioned(self, x, position, padding_mask, keys, values, prompt_padding_mask, seen=False):  # type: ignore[no-untyped-def]
    x = x if seen else self.look(x, position, padding_mask)
    n = self.norm2(x) + position
    x = x + self.prompt_attention(n, keys, values, key_padding_mask=prompt_padding_mask)
    return x + self.feed_forward(self.norm3(x))


def swapped_sides(linear: nn.Module) -> None:
    y, x, w, h = linear.weight.data.chunk(4, dim=1)
    linear.weight.data = torch.cat((y, x, h, w), dim=1)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_the_stage_of_a_fault_is_the_first_that_departs(
    fault: Fault, clip_kit: Path, mobileclip_kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = Kit(clip_kit if fault.kit == "clip" else mobileclip_kit)
    port = open_port(kit)
    fault.wrong(port.detector, monkeypatch)
    first = check(kit, answers(port, kit)).first
    assert first is not None, "the fault was not seen"
    assert first.stage.name == fault.stage

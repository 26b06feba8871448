"""Faults that look like a collapse of presence: the weights are right, and something is read or run wrongly.

    for fault in find_faults(model, teacher, phrases):
        fault.kind, fault.finding, fault.remedy

What is looked at, and how it is known:

- tokenizer: its size against CLIP's token table; with a teacher of as large a table, its ids.
- context length of MobileCLIP, which reads padding: beyond what was ever trained, other than the teacher's,
  or another one brings the words closer to the teacher's.
- padding: the text encoder computes something else than the released one does with these weights, or words
  come closer to the teacher's when padding is masked.
- norm epsilon: of every norm, against 1e-5.
- rotary positions: attention of the trunk against the same in float64.
- weights: tensors that are as a network starts, or constant, and not as training leaves them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.build import build_text_encoder
from conceptseg.models.config import MobileClipTextConfig, TextConfig
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import PromptTokens
from conceptseg.models.text.block import TextBlock
from conceptseg.models.text.clip import TextEncoder
from conceptseg.models.text.mobileclip import MobileClipText
from conceptseg.models.vision.vit import RotaryAttention
from conceptseg.segmenter import Segmenter

EPSILON = 1e-5  # of every norm of the released models, students too
TRAINED_CONTEXTS = (16, 32)  # tokens that released MobileCLIP encoders were trained with
SAME_WORDS = 1e-3  # relative difference of words that two ways to compute them in float32 stay below
SAME_ATTENTION = 3e-4  # likewise of attention; in bfloat16 it is some 1e-2
FEWEST = 1024  # numbers in a tensor, for its distribution to say anything
FEWEST_NORMAL = 2**14  # likewise, where trained weights may be normal too and only the size is a sign
STARTING_STDS = (0.01, 0.02)  # of what starts normal; tables that start larger hardly move in training
CLIP_ROWS = 49408  # of the token table of every released model; smaller ones have rows to spare
CLOSER = 0.5  # share of the distance to the teacher that another reading must leave at most
FAR = 0.02  # distance to the teacher, 1 - cosine, below which nothing needs explaining


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with how a model is read or run.

    Attributes:
        kind: "tokenizer", "context length", "padding", "norm epsilon", "rotary positions" or "weights".
        finding: what was seen, with its numbers.
        remedy: what to do.
    """

    kind: str
    finding: str
    remedy: str


def find_faults(model: Segmenter, teacher: Segmenter | None, phrases: Sequence[str]) -> list[Fault]:
    """Look for each fault in turn.

    Args:
        model: that says no to what is there. Of an exported one only the tokenizer and the context length are
            looked at.
        teacher: that it should be like; None without one.
        phrases: of the data, at least one.
    """
    faults = [*_tokenizer(model, teacher, phrases), *_context(model, teacher)]
    if not isinstance(model.network, Detector):
        return faults
    with torch.inference_mode():
        faults += [*_text(model, teacher, phrases, known={fault.kind for fault in faults})]
        faults += [*_epsilons(model.network), *_rotary(model)]
        faults += [*_weights(model.network)]
    return faults


def _tokenizer(model: Segmenter, teacher: Segmenter | None, phrases: Sequence[str]) -> Iterator[Fault]:
    rows, size = model.config.architecture.text.vocab_size, model.tokenizer.vocab_size
    remedy = "Put the tokenizer that the text encoder was trained with beside the weights."
    if size > rows or (rows == CLIP_ROWS and size != rows):
        finding = f"the tokenizer knows {size:,} tokens, the token table has {rows:,} rows"
        yield Fault("tokenizer", finding, remedy)
    elif teacher is not None and teacher.config.architecture.text.vocab_size == rows:
        for phrase in phrases:
            ours, theirs = (_pieces(it, phrase) for it in (model, teacher))
            if ours != theirs:
                finding = f"{phrase!r} becomes {ours}, with the teacher's tokenizer {theirs}"
                yield Fault("tokenizer", finding, remedy)
                return


def _pieces(model: Segmenter, phrase: str) -> list[int]:
    """Token ids without padding, uncut."""
    ids = model.tokenizer.with_context_length(4 * len(phrase) + 2)([phrase])[0]
    return [int(i) for i in ids if i]


def _context(model: Segmenter, teacher: Segmenter | None) -> Iterator[Fault]:
    text = model.config.architecture.text
    if not isinstance(text, MobileClipTextConfig):
        return
    read = text.context_length
    theirs = None if teacher is None else teacher.config.architecture.text
    if isinstance(theirs, MobileClipTextConfig) and theirs.context_length != read:
        wanted = theirs.context_length
        finding = (
            f"its MobileCLIP text encoder reads {read} tokens, padding too; the teacher's reads {wanted}"
        )
        yield Fault("context length", finding, f"Load it with text_context={wanted}.")
    elif read > max(TRAINED_CONTEXTS) and text.rows == read:
        finding = (
            f"its MobileCLIP text encoder reads {read} tokens, padding too, as many as its table has rows; "
            f"released ones were trained with {' or '.join(map(str, TRAINED_CONTEXTS))}"
        )
        yield Fault("context length", finding, "Load it with text_context=16 or text_context=32.")


def _text(
    model: Segmenter, teacher: Segmenter | None, phrases: Sequence[str], known: set[str]
) -> Iterator[Fault]:
    """What the text encoder does with padding, and whether another way to read it fits the teacher better."""
    config = model.config.architecture.text
    width = model.config.architecture.width
    weights = model.detector.text_encoder.state_dict()
    ids = model.tokenizer(phrases).to(model.device)
    with model.inference():
        given = model.network.encode_text(ids)

        def standard(config: TextConfig | MobileClipTextConfig) -> TextEncoder | MobileClipText:
            with torch.device("meta"):
                text = build_text_encoder(config, width)
            text.load_state_dict(weights, assign=True)
            return text.eval()

        plain = standard(config)
        mobile = isinstance(plain, MobileClipText)
        allowed = SAME_WORDS if model.dtype == torch.float32 else 0.1
        apart = _distance(given, plain(ids))
        if apart > allowed:
            turned = _encode(plain, ids, masked=mobile)
            explained = _distance(given, turned) < apart / 10
            what = "padding is masked" if mobile else "padding, and what comes later, is read"
            cause = f": {what}" if explained else ""
            finding = (
                f"words differ by {apart:.1%} from those of the released encoder with these weights{cause}"
            )
            right = "reads padding" if mobile else "lets words read what comes before them alone"
            owner = "MobileCLIP's" if mobile else "CLIP's"
            yield Fault("padding", finding, f"Run the text encoder as released: {owner} {right}.")
            return
        if teacher is None or not mobile or known & {"tokenizer", "context length"}:
            return
        assert isinstance(config, MobileClipTextConfig)
        with teacher.inference():
            wanted = teacher.network.encode_text(teacher.tokenizer(phrases).to(teacher.device))
        now = _far(given, wanted)
        if now is None or now < FAR:
            return
        readings: dict[str, tuple[str, PromptTokens]] = {
            "padding": ("with padding masked", _encode(plain, ids, masked=True))
        }
        for length in TRAINED_CONTEXTS:
            if length <= config.rows and length != config.context_length:
                other = dataclasses.replace(config, context_length=length, positions=config.rows)
                shorter = model.tokenizer.with_context_length(length)(phrases).to(model.device)
                readings[f"context length {length}"] = (f"with {length} tokens", standard(other)(shorter))
        far, kind, words = min(
            (distance, kind, words)
            for kind, (words, tokens) in readings.items()
            if (distance := _far(tokens, wanted)) is not None
        )
        if far <= CLOSER * now:
            finding = f"words have a cosine of {1 - now:.3f} to the teacher's, {words} {1 - far:.3f}"
            if kind == "padding":
                remedy = (
                    "It was trained with padding masked, as transformers does; run it there, or tune it here."
                )
            else:
                remedy = f"Load it with text_context={kind.split()[-1]}."
            yield Fault(kind.rstrip(" 0123456789"), finding, remedy)


def _encode(text: TextEncoder | MobileClipText, ids: Tensor, masked: bool) -> PromptTokens:
    """Words the other way round: every token read, unlike CLIP; or padding masked, unlike MobileCLIP."""
    mask = ids == 0 if masked else None
    x = text.token_embedding(ids) + text.position_embedding[: ids.shape[1]]  # (B, T, C)
    for block in text.blocks:
        if isinstance(block, TextBlock):
            n = block.norm1(x)
            x = x + block.attention(n, n, n, key_padding_mask=mask)
            x = x + block.mlp(block.norm2(x))
        else:
            x = block(x)
    return PromptTokens(text.projection(text.norm(x)).transpose(0, 1), ids == 0)


def _valid(tokens: PromptTokens) -> Tensor:
    """(words, D), pair by pair, without padding."""
    return tokens.tokens.transpose(0, 1)[~tokens.padding_mask].double().cpu()


def _distance(one: PromptTokens, other: PromptTokens) -> float:
    """|one - other| / |other| over all words."""
    a, b = _valid(one), _valid(other)
    return float((a - b).norm() / b.norm())


def _far(one: PromptTokens, other: PromptTokens) -> float | None:
    """1 - mean cosine; None where words do not correspond."""
    a, b = _valid(one), _valid(other)
    return None if a.shape != b.shape else 1 - float(F.cosine_similarity(a, b, dim=-1).mean())


def _epsilons(detector: Detector) -> Iterator[Fault]:
    wrong = {
        name: float(module.eps)
        for name, module in detector.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)) and module.eps != EPSILON
    }
    if wrong:
        first = next(iter(wrong))
        values = ", ".join(f"{eps:g}" for eps in sorted(set(wrong.values())))
        finding = f"{len(wrong)} norms have epsilon {values}, not {EPSILON:g} as released, first {first}"
        yield Fault(
            "norm epsilon", finding, "Set norm_eps to 1e-5 in config.json (transformers' default is 1e-6)."
        )


def _rotary(model: Segmenter) -> Iterator[Fault]:
    """Attention of the trunk's first layers, in windows and over the image, against float64."""
    if model.dtype != torch.float32:
        return  # half precision differs by as much as what is looked for
    seen: set[bool] = set()
    for name, module in model.detector.vision_encoder.named_modules():
        if not isinstance(module, RotaryAttention):
            continue
        window = module.rope_window
        whole = bool(
            getattr(model.detector.vision_encoder.get_submodule(name.rpartition(".")[0]), "window", 1) == 0
        )
        if whole in seen:
            continue
        seen.add(whole)
        side = 2 * window if whole else window
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, side, side, module.qkv.in_features, generator=generator).to(model.device)
        right, x = _attention_in_float64(module, x)
        apart = float((module(x).double() - right).norm() / right.norm())
        if apart > SAME_ATTENTION:
            finding = f"attention of {name} differs by {apart:.1e} from that in float64"
            remedy = "Turn queries and keys in float32, by tables in float32, whatever the rest computes in."
            yield Fault("rotary positions", finding, remedy)
            return


def _attention_in_float64(module: RotaryAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a rotary attention should give, and the input, scaled so that tokens attend to few others."""
    _, height, width, channels = x.shape
    head = channels // module.heads

    def queries_keys_values(x: Tensor) -> tuple[Tensor, ...]:
        bias = None if module.qkv.bias is None else module.qkv.bias.double()
        qkv = F.linear(x.double(), module.qkv.weight.double(), bias)
        return qkv.reshape(1, height * width, 3, module.heads, head).permute(2, 0, 3, 1, 4).unbind(0)

    token = torch.arange(height * width, device=x.device, dtype=torch.float64)
    frequencies = module.rope_theta ** (
        -torch.arange(0, head, 4, device=x.device, dtype=torch.float64) / head
    )
    scale = module.rope_window / width
    columns, rows = (token % width) * scale, torch.div(token, width, rounding_mode="floor") * scale
    angle = torch.cat((columns[:, None] * frequencies, rows[:, None] * frequencies), dim=-1)
    turn = torch.polar(torch.ones_like(angle), angle)

    def turned(side: Tensor) -> Tensor:
        return torch.view_as_real(
            torch.view_as_complex(torch.unflatten(side, -1, (-1, 2)).contiguous()) * turn
        ).flatten(-2)

    q, k, _ = queries_keys_values(x)
    spread = float((turned(q) @ turned(k).transpose(-1, -2)).std()) / head**0.5
    x = x * (2 / max(spread, 1e-12)) ** 0.5
    q, k, v = queries_keys_values(x)
    y = F.scaled_dot_product_attention(turned(q), turned(k), v).transpose(1, 2).reshape(x.shape)
    bias = None if module.proj.bias is None else module.proj.bias.double()
    return F.linear(y, module.proj.weight.double(), bias), x


def _weights(detector: Detector) -> Iterator[Fault]:
    idle = _idle(detector)
    starting, looked_at = [], 0
    for name, value in detector.state_dict().items():
        if name.startswith(idle) or not value.is_floating_point() or value.numel() < 2:
            continue
        norm = name.endswith(".weight") and value.dim() == 1
        if not norm and value.numel() < FEWEST:
            continue
        looked_at += 1
        if _as_it_starts(value.float(), norm):
            starting.append(name)
    if starting:
        shown = ", ".join(starting[:3]) + (", ..." if len(starting) > 3 else "")
        finding = (
            f"{len(starting)} of {looked_at} tensors are as a network starts, not as training leaves them: "
            f"{shown}"
        )
        remedy = (
            "Look at `conceptseg models info` and at how the file was made: keys that were missing there "
            "were filled with fresh values."
        )
        yield Fault("weights", finding, remedy)


def _idle(detector: Detector) -> tuple[str, ...]:
    """What released models hold and never run, so that it stays as it started; and what one layout lacks."""
    neck, head = detector.config.neck, detector.config.mask_head
    levels = len(neck.scales) - neck.drop_last
    dropped = [f"neck.branches.{i}." for i in range(levels, len(neck.scales))]
    stages = range(levels - 1, head.upsampling_stages)
    unrun = [f"mask_head.{part}.{i}." for part in ("convs", "norms") for i in stages]
    return (*dropped, *unrun, "exemplar_encoder.point_")


def _as_it_starts(value: Tensor, norm: bool) -> bool:
    """Whether a tensor is constant, or spread as fresh weights: uniform or normal, of their usual size."""
    if norm or bool((value == value.flatten()[0]).all()):
        return bool((value == value[(0,) * value.dim()]).all())
    n = value.numel()
    largest, square = float(value.abs().max()), float(value.square().mean())
    if value.dim() < 2:  # a bias or a norm of somebody else's making: its spread says nothing
        return False
    fan_in, fan_out = value[0].numel(), value.shape[0] * (value[0].numel() // max(1, value.shape[1]))
    bounds = (fan_in**-0.5, (6 / (fan_in + fan_out)) ** 0.5)
    margin = 4 * n**-0.5
    if any(abs(largest / bound - 1) < 0.01 for bound in bounds) and abs(3 * square / largest**2 - 1) < margin:
        return abs(2 * float(value.abs().mean()) / largest - 1) < margin
    usual = any(abs(square**0.5 / std - 1) < margin / 2 for std in STARTING_STDS)
    kurtosis = float(value.pow(4).mean()) / square**2
    return n >= FEWEST_NORMAL and usual and abs(kurtosis - 3) < 5 * margin

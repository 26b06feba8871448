"""Our MobileCLIP text encoder against `transformers`' Sam3LiteText model, called without an attention mask.

The released text students mask nothing, and `transformers` masks padding when it is given a mask.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conceptseg.checkpoints.key_table import UNUSED, KeyTable
from conceptseg.checkpoints.mobileclip import (
    LANGUAGE,
    huggingface_mobileclip_rules,
    mobileclip_config,
    mobileclip_rules,
)
from conceptseg.models.build import build_text_encoder
from conceptseg.models.text.mobileclip import MobileClipText

pytest.importorskip("transformers.models.sam3_lite_text")

VOCABULARY, CONTEXT, WIDTH, OUTPUT = 50, 16, 128, 24  # width: two heads, as wide as the released ones
HUGGING_FACE = KeyTable("Hugging Face", huggingface_mobileclip_rules())
RELEASED = KeyTable("EfficientSAM3", mobileclip_rules())


class LiteText(nn.Module):
    """The parts of Sam3LiteTextModel that make prompt tokens, under their names."""

    def __init__(self, rep_mixer: bool) -> None:
        super().__init__()
        from transformers.models.sam3_lite_text.modeling_sam3_lite_text import (
            Sam3LiteTextTextConfig,
            Sam3LiteTextTextModel,
        )

        config = Sam3LiteTextTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=96,
            projection_dim=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
            use_repmixer_blocks=rep_mixer,
        )
        self.text_encoder = Sam3LiteTextTextModel(config)
        self.text_projection = nn.Linear(WIDTH, OUTPUT)

    def forward(self, token_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.text_encoder(input_ids=token_ids, attention_mask=mask).last_hidden_state
        return self.text_projection(hidden).transpose(0, 1)


def pair(rep_mixer: bool) -> tuple[LiteText, MobileClipText]:
    """(transformers' encoder, ours) with equal random weights."""
    theirs = LiteText(rep_mixer).eval().requires_grad_(False)
    randomise(theirs)
    ours = HUGGING_FACE.translate(theirs.state_dict())
    return theirs, load(ours)


def load(state: dict[str, Tensor]) -> MobileClipText:
    config = mobileclip_config({name: value.shape for name, value in state.items()})
    module = build_text_encoder(config, OUTPUT)
    assert isinstance(module, MobileClipText)
    module.load_state_dict({name.removeprefix("text_encoder."): value for name, value in state.items()})
    return module.eval().requires_grad_(False)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif name.endswith("layer_scale"):
            value.copy_(0.5 * noise)
        elif value.dim() > 1:
            fan_in = 1 if "embedding" in name else value[0].numel()
            value.copy_(noise * (2.0 if "q_proj" in name else 1.0) * fan_in**-0.5)
        else:
            value.copy_(0.3 * noise + (1.0 if name.endswith("weight") else 0.0))


def token_ids() -> Tensor:
    ids = torch.zeros(3, CONTEXT, dtype=torch.long)
    for row, phrase in zip(ids, ([1, 17, 2], [1, 5, 44, 31, 0, 9, 2], [1, *range(10, 24), 2]), strict=True):
        row[: len(phrase)] = torch.tensor(phrase)
    return ids


@pytest.mark.parametrize("rep_mixer", [True, False])
def test_tokens_equal_those_of_transformers_without_a_mask(rep_mixer: bool) -> None:
    theirs, ours = pair(rep_mixer)
    expected, tokens = theirs(token_ids()), ours(token_ids()).tokens
    assert tokens.shape == (CONTEXT, 3, OUTPUT)
    assert expected.std(dim=0).mean() > 0.2 and expected.std(dim=1).mean() > 0.2
    assert (tokens - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_mask_would_give_other_tokens() -> None:
    theirs, ours = pair(rep_mixer=False)
    ids = token_ids()
    masked = theirs(ids, (ids != 0).long())
    assert (masked[:3, 0] - ours(ids).tokens[:3, 0]).abs().max() > 0.01


def test_released_names_hold_the_same_encoder() -> None:
    theirs, ours = pair(rep_mixer=True)
    by_our_names: dict[str, Any] = {
        piece.ours: piece.make(theirs.state_dict(), "Hugging Face")
        for piece in HUGGING_FACE.plan(theirs.state_dict()).pieces
    }
    released, homeless = RELEASED.back(by_our_names)
    assert not homeless
    table = released[f"{LANGUAGE}encoder.positional_embedding.pos_embed.pos_embed"]
    assert table.shape == (1, 1, CONTEXT, WIDTH)
    # x @ projection there, a linear layer here.
    projection = released[f"{LANGUAGE}encoder.projection_layer"]
    assert torch.equal(projection, theirs.text_encoder.projection.weight.t())
    again = load(RELEASED.translate(released))
    assert torch.equal(again(token_ids()).tokens, ours(token_ids()).tokens)
    back, homeless = HUGGING_FACE.back(by_our_names)
    assert not homeless and set(back) == set(theirs.state_dict())
    assert all(torch.equal(value, back[name]) for name, value in theirs.state_dict().items())
    assert sum(name.startswith(UNUSED) for name in by_our_names) == 1

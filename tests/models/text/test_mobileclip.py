"""MobileCLIP's text encoder: what it reads, and its sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conceptseg.errors import ConfigError, ShapeError
from conceptseg.models.build import build_text_encoder
from conceptseg.models.config import DetectorConfig, MobileClipTextConfig, TextConfig
from conceptseg.models.text.mobileclip import MobileClipText
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from tests.models.tiny import randomise

S0 = MobileClipTextConfig()
S1 = MobileClipTextConfig(depth=12, rep_mixer=False)
LARGE = MobileClipTextConfig(depth=12, rep_mixer=False, width=768, heads=12, mlp_width=3072)


def encoder(positions: int | None = None, rep_mixer: bool = True) -> MobileClipText:
    module = MobileClipText(
        vocab_size=30,
        context_length=6,
        positions=positions,
        width=12,
        depth=2,
        heads=3,
        mlp_width=20,
        rep_mixer=rep_mixer,
        output_width=5,
    ).eval()
    randomise(module)
    return module.requires_grad_(False)


@pytest.mark.parametrize(
    ("config", "rows", "released"),
    [
        (S0, 16, 42_541_312),
        (S0, 77, 42_572_544),
        (S1, 16, 63_528_192),
        (S1, 77, 63_559_424),
        (LARGE, 16, 123_800_320),
        (LARGE, 77, 123_847_168),
    ],
)
def test_sizes_are_the_released_ones_less_a_projection_that_nothing_reads(
    config: MobileClipTextConfig, rows: int, released: int
) -> None:
    with torch.device("meta"):
        module = build_text_encoder(dataclasses.replace(config, positions=rows), 256)
    assert sum(p.numel() for p in module.parameters()) == released - config.width**2


@pytest.mark.parametrize("rep_mixer", [True, False])
def test_every_token_is_kept_and_zeros_are_padding(rep_mixer: bool) -> None:
    prompt = encoder(rep_mixer=rep_mixer)(torch.tensor([[1, 9, 2, 0, 0, 0], [1, 9, 4, 7, 8, 2]]))
    assert prompt.tokens.shape == (6, 2, 5)
    assert prompt.padding_mask.tolist() == [[False] * 3 + [True] * 3, [False] * 6]


@pytest.mark.parametrize("rep_mixer", [True, False])
def test_the_first_word_reads_the_last_and_the_padding(rep_mixer: bool) -> None:
    module = encoder(rep_mixer=rep_mixer)
    phrase = torch.tensor([[1, 9, 2, 0, 0, 0]])
    tokens = module(phrase).tokens
    with torch.no_grad():
        module.token_embedding.weight[0].neg_()
    assert (module(phrase).tokens[:3] - tokens[:3]).abs().max() > 1e-3
    last, other = module(torch.tensor([[1, 9, 4, 7, 8, 2]])), module(torch.tensor([[1, 9, 4, 7, 5, 2]]))
    assert (last.tokens[0] - other.tokens[0]).abs().max() > 1e-3


def test_another_length_of_padding_is_refused_because_it_would_change_the_answer() -> None:
    with pytest.raises(ShapeError, match="token_ids has 3 columns; .* its context length, 6"):
        encoder()(torch.tensor([[1, 9, 2]]))


def test_our_tokenizer_pads_to_the_context_length() -> None:
    tokenizer = Tokenizer(train_tokenizer(["red circle"], 300), context_length=16)
    assert tokenizer(["red", "a very long phrase " * 9]).shape == (2, 16)


def test_of_a_longer_position_table_the_first_rows_are_used() -> None:
    long = encoder(positions=9)
    short = encoder()
    state = long.state_dict()
    state["position_embedding"] = state["position_embedding"][:6]
    short.load_state_dict(state)
    phrase = torch.tensor([[1, 9, 2, 0, 0, 0]])
    torch.testing.assert_close(long(phrase).tokens, short(phrase).tokens)


def test_convolutional_blocks_start_almost_switched_off() -> None:
    module = encoder()
    assert len(module.blocks) == 4 and len(encoder(rep_mixer=False).blocks) == 2
    fresh = MobileClipText(30, 6, None, 12, 2, 3, 20, True, 5).eval()
    x = torch.randn(1, 6, 12)
    assert (fresh.blocks[0](x) - x).abs().max() < 1e-3


def test_config_survives_json_and_names_mistakes() -> None:
    config = DetectorConfig(text=dataclasses.replace(S0, positions=77, context_length=32))
    assert DetectorConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="text.context_length = 32 exceeds the 16 rows of text.positions"):
        MobileClipTextConfig(context_length=32, positions=16)
    with pytest.raises(ConfigError, match="text.width = 512 is not a multiple of text.heads = 7"):
        MobileClipTextConfig(heads=7)
    with pytest.raises(ConfigError, match="architecture.text.kind is 'bert'; choose 'clip', 'mobileclip'"):
        DetectorConfig.from_dict({"text": {"kind": "bert"}})


def test_configs_from_before_there_were_two_text_encoders_still_load() -> None:
    assert DetectorConfig.from_dict({"text": {"width": 512}}).text == TextConfig(width=512)

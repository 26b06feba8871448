"""Class logits and presence logits, small enough to follow by hand."""

from __future__ import annotations

import torch

from conceptseg.models.presence_head import PresenceHead
from conceptseg.models.prompts import PromptTokens
from conceptseg.models.scoring import DotProductScoring
from tests.models.tiny import randomise

WIDTH = 4


def plain_scoring(logit_limit: float | None = 12.0) -> DotProductScoring:
    """Pools and compares the tokens as they are, apart from their norm."""
    scoring = DotProductScoring(WIDTH, mlp_width=6, logit_limit=logit_limit)
    with torch.no_grad():
        for parameter in scoring.parameters():
            parameter.zero_()
        scoring.prompt_norm.weight.fill_(1.0)
        scoring.prompt_projection.weight.copy_(torch.eye(WIDTH))
        scoring.query_projection.weight.copy_(torch.eye(WIDTH))
    return scoring.requires_grad_(False)


# Tokens with mean 0 and variance 1 pass the norm as they are.
ONE, OTHER = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])


def test_a_score_is_the_dot_product_with_the_mean_of_the_tokens_over_the_root_of_the_width() -> None:
    prompt = PromptTokens(torch.stack((ONE, OTHER))[:, None], torch.zeros(1, 2, dtype=torch.bool))
    hidden = torch.stack((ONE, OTHER, -ONE))[None, :, None]  # (1, 3, 1, 4)
    logits = plain_scoring()(hidden, prompt)
    # Mean token (1, 0, 0, -1); <ONE, mean> = 2; divided by sqrt(4).
    torch.testing.assert_close(logits[0, :, 0], torch.tensor([1.0, 1.0, -1.0]), atol=1e-4, rtol=0)


def test_padding_is_not_part_of_the_mean() -> None:
    tokens = torch.stack((ONE, OTHER))[:, None].expand(-1, 2, -1)
    prompt = PromptTokens(tokens, torch.tensor([[False, True], [True, True]]))
    logits = plain_scoring()(ONE[None, None, None].expand(1, 1, 2, -1), prompt)
    # The first pair is asked for ONE alone: 4 / 2. The second is asked for nothing.
    torch.testing.assert_close(logits[0, 0], torch.tensor([2.0, 0.0]), atol=1e-4, rtol=0)


def test_class_logits_are_clamped_at_twelve_unless_told_otherwise() -> None:
    prompt = PromptTokens(ONE[None, None], torch.zeros(1, 1, dtype=torch.bool))
    hidden = torch.stack((100 * ONE, -100 * ONE))[None, :, None]
    assert plain_scoring()(hidden, prompt)[0, :, 0].tolist() == [12.0, -12.0]
    assert plain_scoring(logit_limit=None)(hidden, prompt).abs().min() > 190


def test_a_presence_head_gives_one_logit_per_pair() -> None:
    head = PresenceHead(WIDTH, layers=3)
    randomise(head)
    assert head(torch.randn(5, WIDTH)).shape == (5,)


def test_a_presence_limit_clamps() -> None:
    free, limited = PresenceHead(WIDTH, layers=1), PresenceHead(WIDTH, layers=1, logit_limit=1.5)
    for head in (free, limited):
        with torch.no_grad():
            head.mlp.layers[0].weight.fill_(0.0)  # type: ignore[operator, union-attr]
            head.mlp.layers[0].bias.fill_(-20.0)  # type: ignore[operator, union-attr]
    token = torch.randn(2, WIDTH)
    assert free(token).tolist() == [-20.0, -20.0]
    assert limited(token).tolist() == [-1.5, -1.5]

from __future__ import annotations

import torch

from conceptseg.models.prompts import PromptTokens


def test_padding_is_not_pooled() -> None:
    tokens = torch.tensor([[[1.0]], [[3.0]], [[100.0]]])  # (3, 1, 1)
    assert PromptTokens(tokens, torch.tensor([[False, False, True]])).pooled().item() == 2.0


def test_a_prompt_of_padding_alone_pools_to_zero() -> None:
    assert PromptTokens(torch.ones(2, 1, 3), torch.ones(1, 2, dtype=torch.bool)).pooled().tolist() == [
        [0, 0, 0]
    ]

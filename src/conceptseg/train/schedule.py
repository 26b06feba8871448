"""Learning rate over time, and which parameters decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from conceptseg.train.recipe import OptimiserConfig

NOT_DECAYED = ("embedding", "reference_points", "presence_token", "summary_token")


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, biases, norms and embeddings do not. Each group remembers its own peak rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own_rate = config.vision_lr if "vision_encoder" in name else None
        rate = config.lr if own_rate is None else own_rate
        decays = parameter.dim() > 1 and not any(word in name for word in NOT_DECAYED)
        groups.setdefault((rate, config.weight_decay if decays else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(config.betas[0], config.betas[1]),
        fused=True,
    )


def rate_factor(step: int, steps: int, config: OptimiserConfig) -> float:
    """Share of the peak rate at `step`: linear warm-up, then half a cosine down to `final_lr`."""
    steps = config.schedule_steps or steps
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

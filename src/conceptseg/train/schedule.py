"""Learning rate over time, and which parameters decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from conceptseg.errors import ConfigError
from conceptseg.train.run_config import OptimiserConfig
from conceptseg.train.task import in_part

NOT_DECAYED = ("embedding", "reference_points", "presence_token", "summary_token")


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; matrices decay, biases, norms and embeddings do not. Each group remembers its own peak rate.

    Raises:
        ConfigError: a rate is given for a part that the model does not have, or nothing is left to train.
    """
    names = [name.removeprefix("detector.") for name, _ in model.named_parameters()]
    for part in config.part_rates:
        if not any(in_part(name, part) for name in names):
            raise ConfigError(f"optimiser.part_rates names {part!r}, which this model does not have")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = _peak_rate(name.removeprefix("detector."), config)
        decays = parameter.dim() > 1 and not any(word in name for word in NOT_DECAYED)
        groups.setdefault((rate, config.weight_decay if decays else 0.0), []).append(parameter)
    if not groups:
        raise ConfigError("nothing is left to train: every part is frozen")
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        fused=True,
    )


def _peak_rate(name: str, config: OptimiserConfig) -> float:
    """Of one parameter: the innermost part that is named decides."""
    rate = config.vision_lr if config.vision_lr is not None and "vision_encoder" in name else config.lr
    parts = [part for part in config.part_rates if in_part(name, part)]
    return rate * config.part_rates[max(parts, key=len)] if parts else rate


def rate_factor(step: int, steps: int, config: OptimiserConfig) -> float:
    """Share of the peak rate at `step`: linear warm-up, then half a cosine down to `final_lr`."""
    steps = config.schedule_steps or steps
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

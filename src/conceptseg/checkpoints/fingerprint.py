"""Which weights are these? Asked by exemplars, feature caches and exports."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch

from conceptseg.models.detector import Detector


def model_fingerprint(detector: Detector) -> str:
    """Sixteen hex digits that say which weights an exemplar belongs to.

    Sampled, not summed over all weights: any training step moves every sampled value of what it trains, and a
    large model answers at once. Presence parameters are left out, because repairing presence leaves exemplars
    as good as they were. Values are rounded to bfloat16, so that a model has one fingerprint in every number
    type it is loaded in.
    """
    digest = hashlib.sha256(json.dumps(_values(detector.config), sort_keys=True).encode())
    for name, parameter in sorted(detector.named_parameters()):
        if "presence" in name:
            continue
        plain = parameter.to_dense() if parameter.is_mkldnn else parameter  # see models/cpu/packing.py
        flat = plain.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 16)][:16].to(torch.bfloat16).float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _values(config: Any) -> Any:
    """What a config says, without what models of earlier versions could not say."""
    if not dataclasses.is_dataclass(config):
        return config
    return {
        entry.name: _values(getattr(config, entry.name))
        for entry in dataclasses.fields(config)
        if not (entry.metadata.get("later") and getattr(config, entry.name) == entry.default)
    }

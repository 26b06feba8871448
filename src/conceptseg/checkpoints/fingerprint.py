"""Which weights are these? Asked by exemplars, feature caches and exports."""

from __future__ import annotations

import hashlib
import json

import torch

from conceptseg.models.detector import Detector


def model_fingerprint(detector: Detector) -> str:
    """Sixteen hex digits that say which weights an exemplar belongs to.

    Sampled, not summed over all weights: any training step moves every sampled value of what it trains, and a
    large model answers at once. Presence parameters are left out, because repairing presence leaves exemplars
    as good as they were. Values are rounded to bfloat16, so that a model has one fingerprint in every number
    type it is loaded in.
    """
    digest = hashlib.sha256(json.dumps(detector.config.to_dict(), sort_keys=True).encode())
    for name, parameter in sorted(detector.named_parameters()):
        if "presence" in name:
            continue
        plain = parameter.to_dense() if parameter.is_mkldnn else parameter  # see models/cpu/packing.py
        flat = plain.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 16)][:16].to(torch.bfloat16).float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]

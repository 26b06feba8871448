"""Time per stage, also of modules that run inside a call: hooks start and stop the clock around them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class StageClock:
    """Seconds by the name of the stage; a stage that runs again adds to its time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block. What `modules` timed inside it is counted there and not here."""
        inside, start = sum(self.seconds.values()), self.now()
        yield
        inner = sum(self.seconds.values()) - inside
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start - inner

    @contextmanager
    def modules(self, stages: Mapping[str, nn.Module]) -> Iterator[None]:
        """Time these modules wherever they run; they must not lie inside each other."""
        handles = []
        starts: dict[str, float] = {}
        for name, module in stages.items():

            def begin(module: nn.Module, inputs: Any, name: str = name) -> None:
                starts[name] = self.now()

            def end(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - starts[name]

            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def now(self) -> float:
        """Seconds, after all work that was given to a GPU is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

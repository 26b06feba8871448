"""An exported graph in OpenVINO, called as a session of ONNX Runtime is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conceptseg.errors import CheckpointError


@dataclass(frozen=True)
class NamedInput:
    name: str


class OpenVinoGraph:
    """A graph compiled for this CPU, with as many threads as torch uses; threads that share it take turns.

    Args:
        path: of the ONNX file.
        bfloat16: compute in it; else in float32, which OpenVINO by itself would not do on a processor with
            instructions for bfloat16.

    Raises:
        CheckpointError: the file cannot be read.
    """

    def __init__(self, path: Path, bfloat16: bool = False) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:  # OpenVINO's only class of errors
            raise CheckpointError(f"OpenVINO cannot read {path}: {reason_of(error)}") from error
        self._inputs = [NamedInput(port.get_any_name()) for port in self._compiled.inputs]
        self._turn = threading.Lock()

    def get_inputs(self) -> Sequence[NamedInput]:
        return self._inputs

    def run(self, outputs: None, inputs: dict[str, Any], /) -> list[Any]:
        with self._turn:  # what it answers lies in memory that the next question overwrites
            answers = self._compiled(inputs)
            return [np.array(answers[port]) for port in self._compiled.outputs]


def reason_of(error: Exception) -> str:
    """What OpenVINO says at last, below the lines that name its own files."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    return told[-1] if told else str(error)

"""An exported network in ONNX Runtime or OpenVINO, behind the same calls as the torch `Detector`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from conceptseg.checkpoints.find_tokenizer import check_vocabulary
from conceptseg.checkpoints.onnx_folder import GRAPHS, read_onnx_config
from conceptseg.choices import Runtime
from conceptseg.errors import CheckpointError, OptionError, PromptError
from conceptseg.extras import require
from conceptseg.models.detector import ImageFeatures, RawOutput
from conceptseg.models.prompts import GeometricPrompt, PromptTokens, join_prompts
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.runtime.openvino_graph import OpenVinoGraph

ENCODERS = ("vision", "text", "exemplar")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Graph(Protocol):
    """What is asked of a session of ONNX Runtime, or of what stands in for one."""

    def get_inputs(self) -> Sequence[Any]: ...  # each has a `name`

    def run(self, outputs: None, inputs: dict[str, Any], /) -> Sequence[Any]: ...  # arrays by name -> arrays


class OnnxDetector:
    """The graphs of one ONNX folder; each is opened when it is first asked.

    Tensors go in and come out on the CPU, whatever device the graphs run on. Several threads may use it.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str | torch.device = "auto",
        runtime: Runtime = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        """Read the config; the graphs are opened later.

        Args:
            folder: written by `conceptseg export onnx`.
            device: "auto" and "cpu", or in ONNX Runtime "cuda", which needs the package onnxruntime-gpu.
            runtime: "onnxruntime" or "openvino"; "auto": ONNX Runtime.
            dtype: "float32"; in OpenVINO "bfloat16" too: the encoders' graphs compute in it, and what follows
                them, where boxes are refined step by step, in float32.

        Raises:
            CheckpointError: a file is missing or damaged.
            MissingDependencyError: the runtime is not installed.
            OptionError: it has no provider for this device.
        """
        self.folder = Path(folder)
        self.rounded = runtime == "openvino" and _is_bfloat16(dtype)
        self.config, self.info = read_onnx_config(self.folder)
        self._open: Callable[[str], Graph]
        if runtime == "openvino":
            require("openvino", f"running {self.folder}")
            if str(device) not in ("auto", "cpu"):
                raise OptionError(f"in OpenVINO an exported model runs on cpu; got device {device!r}")
            self._open = self._openvino_graph
        else:
            require("onnx", f"running {self.folder}", ("onnxruntime",))
            providers = _providers(str(device))
            self._open = lambda graph: open_session(self._path(graph), providers)
        self._sessions: dict[str, Graph] = {}
        self._lock = threading.Lock()

    def tokenizer(self) -> Tokenizer:
        """The one that lies in the folder.

        Raises:
            CheckpointError: it is damaged, or not that of the text encoder.
        """
        text = self.config.architecture.text
        tokenizer = Tokenizer.load(self.folder / "tokenizer.json", text.context_length)
        check_vocabulary(tokenizer, text.vocab_size, str(self.folder))
        return tokenizer

    def run_with(self, graphs: Mapping[str, Graph]) -> None:
        """Have another program run some of the graphs.

        Args:
            graphs: "vision", "text", "exemplar", "detector": what is called in place of a session of ONNX
                Runtime.

        Raises:
            OptionError: there is no such graph.
        """
        unknown = sorted(set(graphs) - set(GRAPHS))
        if unknown:
            raise OptionError(f"there is no graph {unknown[0]!r}; the graphs are {', '.join(GRAPHS)}")
        with self._lock:
            self._sessions.update(graphs)

    def check_options(self, dtype: str | torch.dtype, resolution: int | None) -> int:
        """Refuse what an exported network cannot be asked for; gives its resolution.

        Raises:
            OptionError: another number type or resolution than it was exported with.
        """
        if dtype not in ("auto", "float32", torch.float32) and not (self.rounded and _is_bfloat16(dtype)):
            raise OptionError(
                f"{self.folder} takes and gives float32; dtype must be 'auto' or 'float32', got {dtype!r}"
            )
        if resolution not in (None, self.info.resolution):
            raise OptionError(
                f"{self.folder} was exported for {self.info.resolution} px; for {resolution} px export the "
                "model again"
            )
        return self.info.resolution

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        return ImageFeatures(levels=self._run("vision", {"pixels": pixels.float()}), positions=[], trunk=[])

    def encode_text(self, token_ids: Tensor) -> PromptTokens:
        return _sequence(*self._run("text", {"token_ids": token_ids}))

    def encode_exemplars(
        self, image: ImageFeatures, geometry: GeometricPrompt | None, image_index: Tensor
    ) -> PromptTokens:
        """Boxes on each pair's image -> (M + 1, B, D); without any, only the summary token.

        Raises:
            PromptError: points, which are not exported.
        """
        pairs = image_index.shape[0]
        boxes = None if geometry is None else geometry.boxes_cxcywh
        if geometry is not None and geometry.points_xy is not None:
            raise PromptError("point prompts are not in exported models; use boxes, or load the model itself")
        if geometry is None or boxes is None or geometry.box_labels is None:
            # The graph wants at least one box: a padded one, whose token is left out again.
            boxes, labels = torch.full((pairs, 1, 4), 0.5), torch.zeros(pairs, 1, dtype=torch.long)
            padding, skip = torch.ones(pairs, 1, dtype=torch.bool), 1
        else:
            labels, skip = geometry.box_labels, 0
            padding = torch.zeros_like(labels, dtype=torch.bool)
            padding = padding if geometry.box_padding is None else geometry.box_padding
        inputs = {
            **_levels(image),
            "image_index": image_index,
            "boxes_cxcywh": boxes.float(),
            "box_labels": labels,
            "box_padding": padding,
        }
        made = _sequence(*self._run("exemplar", inputs))
        return PromptTokens(made.tokens[skip:], made.padding_mask[:, skip:])

    def detect(self, image: ImageFeatures, image_index: Tensor, prompt: PromptTokens) -> RawOutput:
        """Everything after the encoders; of the decoder's layers the last one only (L = 1)."""
        inputs = {
            **_levels(image),
            "image_index": image_index,
            "prompt_tokens": prompt.tokens.transpose(0, 1).float(),
            "prompt_padding_mask": prompt.padding_mask,
        }
        class_logits, boxes, presence_logits, masks, semantic, hidden = self._run("detector", inputs)
        return RawOutput(
            class_logits=class_logits.t()[None],  # (1, N, B)
            boxes_cxcywh=boxes.transpose(0, 1)[None],
            presence_logits=presence_logits[None],
            hidden=hidden.transpose(0, 1),
            mask_logits=masks,
            semantic_logits=semantic,
        )

    raw = detect  # the graph gives all masks, whatever was asked for

    def answer(
        self,
        image: ImageFeatures,
        text: PromptTokens,
        geometry: GeometricPrompt | None,
        image_index: Tensor,
    ) -> RawOutput:
        """Answer encoded phrases on encoded images."""
        exemplars = self.encode_exemplars(image, geometry, image_index)
        return self.detect(image, image_index, join_prompts(text, exemplars))

    def _run(self, graph: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        session = self._session(graph)
        wanted = {value.name for value in session.get_inputs()}
        arrays = {k: v.detach().cpu().contiguous().numpy() for k, v in inputs.items() if k in wanted}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    def _session(self, graph: str) -> Graph:
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            return self._sessions[graph]

    def _path(self, graph: str) -> Path:
        return self.folder / f"{graph}.onnx"

    def _openvino_graph(self, graph: str) -> Graph:
        return OpenVinoGraph(self._path(graph), bfloat16=self.rounded and graph in ENCODERS)


def open_session(path: Path, providers: Sequence[str] = (PROVIDERS["cpu"],)) -> Any:
    """An `onnxruntime.InferenceSession` with as many threads as torch uses.

    Raises:
        CheckpointError: the file cannot be read.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base
        raise CheckpointError(f"ONNX Runtime cannot read {path}: {error}") from error


def _providers(device: str) -> list[str]:
    import onnxruntime

    name = "cpu" if device == "auto" else device.partition(":")[0]
    if name not in PROVIDERS:
        raise OptionError(f"an exported model runs on {' or '.join(PROVIDERS)}; got device {device!r}")
    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        raise OptionError(
            f"device {device!r} was asked for, but this ONNX Runtime has no {PROVIDERS[name]}; "
            "pip install onnxruntime-gpu, or choose cpu"
        )
    return [PROVIDERS[name]] if name == "cpu" else [PROVIDERS[name], PROVIDERS["cpu"]]


def _is_bfloat16(dtype: str | torch.dtype) -> bool:
    return dtype in ("bfloat16", torch.bfloat16)


def _levels(image: ImageFeatures) -> dict[str, Tensor]:
    return {f"level_{i}": level.float() for i, level in enumerate(image.levels)}


def _sequence(tokens: Tensor, padding_mask: Tensor) -> PromptTokens:
    """Tokens (B, S, D), as the graphs hold them -> (S, B, D), as the library does."""
    return PromptTokens(tokens.transpose(0, 1), padding_mask)

"""A model's name -> a `Segmenter` that runs it: in torch, or exported in ONNX Runtime or OpenVINO."""

from __future__ import annotations

import os

import torch

from conceptseg.checkpoints.config_file import is_onnx_folder
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.choices import Runtime, check_choice
from conceptseg.device import choose_device, choose_dtype
from conceptseg.errors import OptionError
from conceptseg.hub import find_model, local_model
from conceptseg.models.cpu.heap import give_back_freed
from conceptseg.runtime.onnx_detector import OnnxDetector
from conceptseg.segmenter import Segmenter


def load(
    name: str | os.PathLike[str],
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    resolution: int | None = None,
    geometry_from: str | os.PathLike[str] | None = None,
    text_context: int | None = None,
    runtime: Runtime = "auto",
) -> Segmenter:
    """Load a model by its name.

    Args:
        name: an embedded model ("nano"), the path of a model, or a Hugging Face repository ("owner/name").
            A path may lead to a folder of ours or of `transformers`, to an ONNX folder (`conceptseg export
            onnx`), or to a file of SAM 3, EfficientSAM3 or SAM3-LiteText weights; what it is, is told from
            its contents.
        device: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 on CUDA where it is native, and for models of 50 million parameters or more on
            CPUs with instructions for it; else float32), "float32", "bfloat16", "float16". In bfloat16 on a
            CPU the weights are stored so: half the memory, and a model to be asked, not to be trained,
            exported or saved. For those, load it in float32.
        resolution: side in pixels of the square that images are stretched to; None: what the model was
            trained at.
        geometry_from: another model, from which parts are taken that this one's file lacks: some files of
            EfficientSAM3 come without the geometry encoder, which is that of SAM 3.
        text_context: tokens that phrases are padded to, where the text encoder is MobileCLIP's: 16, 32 or 77,
            as it was trained. None: as the config or the name of the file says (`..._ctx16.pt`), else as many
            as there are positions.
        runtime: what computes. "auto": ONNX Runtime for an ONNX folder, torch for everything else; "openvino"
            for an ONNX folder on a CPU, where dtype may also be "bfloat16".

    Raises:
        ModelNotFoundError: no model has this name.
        MissingDependencyError: the runtime is not installed.
        CheckpointError: its weights are damaged, incomplete, or in a layout that cannot be read.
        OptionError: an impossible device, dtype, resolution or text context, or a runtime that does not run
            such a model.
    """
    check_choice("runtime", runtime, Runtime)
    here = local_model(name)
    if here is not None and is_onnx_folder(here):  # it has devices of its own; the Hub has no such folders
        if runtime == "torch":
            raise OptionError(f"{here} is an exported model, which torch does not run; load the model itself")
        exported = OnnxDetector(here, device, runtime, dtype)
        return Segmenter(exported, exported.tokenizer(), exported.config, dtype=dtype, resolution=resolution)
    if runtime not in ("auto", "torch"):
        raise OptionError(
            f"{name} is no ONNX folder, which runtime {runtime!r} needs; conceptseg export onnx writes one"
        )
    chosen = choose_device(device)
    choose_dtype(dtype, chosen)  # a wrong one is told before gigabytes are fetched or read
    path = here or find_model(name)
    others = None if geometry_from is None else find_model(geometry_from)
    checkpoint = open_checkpoint(path, others, text_context)
    tokenizer = checkpoint.tokenizer()  # before gigabytes are read: it may be missing
    parameters = sum(parameter.numel() for parameter in checkpoint.detector.parameters())
    kind = choose_dtype(dtype, chosen, parameters)
    rounded = chosen.type == "cpu" and kind == torch.bfloat16
    detector = checkpoint.load_rounded() if rounded else checkpoint.load()
    segmenter = Segmenter(
        detector, tokenizer, checkpoint.config, device=chosen, dtype=kind, resolution=resolution
    )
    if rounded:
        give_back_freed()
    return segmenter

"""Files of other programs: recognised, checked and opened.

The layout is told from the keys, the architecture from keys and shapes. Parts that a file lacks altogether
can come from another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from conceptseg.checkpoints.architecture import parts_in, read_architecture
from conceptseg.checkpoints.checkpoint import (
    Checkpoint,
    Part,
    build_empty,
    check_fit,
    foreign_names,
    network_pieces,
    of_parts,
    shapes_of,
)
from conceptseg.checkpoints.huggingface import POINTS
from conceptseg.checkpoints.key_table import UNUSED, Plan
from conceptseg.checkpoints.mobileclip import POOLED
from conceptseg.checkpoints.official import CLASS_POSITION, ROTARY_TABLES, rotary_tables
from conceptseg.checkpoints.recognise import Layout, recognise, rotary_hints
from conceptseg.checkpoints.report import KeyGroup, KeyReport, group
from conceptseg.checkpoints.safetensors_file import INDEX_SUFFIX, open_safetensors, open_shards
from conceptseg.checkpoints.text_context import context_by_name, with_context
from conceptseg.checkpoints.torch_file import open_torch
from conceptseg.checkpoints.weights import Weights
from conceptseg.errors import CheckpointError, ConfigError
from conceptseg.models.config import DetectorConfig, ModelConfig, PreprocessingConfig, ViTConfig

RESOLUTION = 1008  # of every released model, where a file does not say it
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
WEIGHT_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", INDEX_SUFFIX)

UNUSED_OF = {CLASS_POSITION: "vision_encoder", POOLED: "text_encoder"}
CALLED = {  # our module -> what its part is called in the official code
    "vision_encoder": "vision encoder",
    "neck": "neck",
    "text_encoder": "text encoder",
    "exemplar_encoder": "geometry encoder",
    "fusion_encoder": "fusion encoder",
    "decoder": "decoder",
    "scoring": "scoring",
    "mask_head": "segmentation head",
}


@dataclass(frozen=True)
class _File:
    """One file, recognised: everything about it that its keys and shapes tell."""

    path: Path
    nested: str
    weights: Weights
    layout: Layout
    plan: Plan
    given: dict[str, torch.Size]  # our name -> shape, of the network alone
    resolution: int | None

    @property
    def name(self) -> str:
        """Of the layout, as messages call it."""
        return self.layout.table.layout


def open_weights(path: Path) -> tuple[Weights, str]:
    """The tensors of a file, by its name's ending, and the name under which they were nested in it.

    Raises:
        CheckpointError: missing, damaged, or no file of weights.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return open_shards(path), ""
    if path.suffix == ".safetensors":
        return open_safetensors(path), ""
    if path.suffix in TORCH_SUFFIXES:
        return open_torch(path)
    raise CheckpointError(f"{path} is no file of weights; those end in {', '.join(WEIGHT_SUFFIXES)}")


def open_foreign(
    path: Path,
    base: Checkpoint | None = None,
    architecture: DetectorConfig | None = None,
    resolution: int | None = None,
    text_context: int | None = None,
) -> Checkpoint:
    """Open weights that another program wrote.

    Args:
        path: of the file, or of the index of its shards.
        base: another checkpoint, from which parts are taken that this one lacks.
        architecture: what a config beside the weights says; None: told from the weights.
        resolution: likewise.
        text_context: tokens that a MobileCLIP text encoder reads; None: told from the name of the file, or
            one for each row of its position table.

    Raises:
        CheckpointError: no known layout, keys or shapes that do not fit, or parts missing and no base.
        OptionError: the text encoder cannot read so many tokens.
    """
    weights, nested = open_weights(path)
    try:
        file = _recognised(path, weights, nested)
        if architecture is None:
            known = base.config.architecture if base else None
            architecture = read_architecture(file.given, file.layout.hints, known)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if text_context is not None:
        architecture = with_context(architecture, text_context, str(path))
    elif "text_encoder" in parts_in(file.given):
        architecture = context_by_name(architecture, _name(path))
    detector = build_empty(architecture)
    wanted = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    lacking = [part for part in CALLED if part in parts_in(wanted) - parts_in(file.given)]
    if lacking and base is None:
        raise CheckpointError(_what_is_lacking(file, lacking, wanted))
    fillers = _fillers(base, lacking)
    zeros = _points_without_weights(file, fillers, wanted)
    there = file.given | {name: wanted[name] for name in zeros}
    if base is not None:
        shapes = base.detector.state_dict()
        there |= {p.ours: shapes[p.ours].shape for part in fillers for p in part.pieces}
    cause = "; is the file complete, and of a released model?"
    check_fit(wanted, there, f"{path} ({file.name})", file.layout.table, cause)
    report = _report(file, fillers, base, lacking, {name: wanted[name] for name in zeros})
    if resolution is None:
        resolution = file.resolution or (base.config.preprocessing.resolution if base else RESOLUTION)
    try:
        preprocessing = PreprocessingConfig(resolution=resolution)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    config = ModelConfig(
        architecture=architecture,
        preprocessing=preprocessing,
        provenance={"name": _name(path), "weights": report.to_dict()},
    )

    def carried() -> dict[str, Tensor]:
        kept = _carried(file, config)
        if base is not None and lacking:
            kept |= {n: value for n, value in base.carried().items() if UNUSED_OF.get(n) in lacking}
        return kept

    return Checkpoint(
        source=str(path),
        config=config,
        report=report,
        parts=[Part(weights, file.name, network_pieces(file.plan)), *fillers],
        carried=carried,
        tokenizer_path=path,
        zeros=tuple(zeros),
        detector=detector,
    )


def _recognised(path: Path, weights: Weights, nested: str) -> _File:
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    layout = recognise(shapes)
    plan = layout.table.plan(weights)
    ours = shapes_of(plan, weights, layout.table.layout)
    given = {piece.ours: ours[piece.ours] for piece in network_pieces(plan)}
    resolution = None
    patch = given.get("vision_encoder.patch_embed.weight")
    if patch is not None:
        hints, resolution = rotary_hints(layout.hints, plan, shapes, patch[-1])
        layout = Layout(layout.table, hints, layout.whole)
    return _File(path, nested, weights, layout, plan, given, resolution)


def _fillers(base: Checkpoint | None, lacking: list[str]) -> list[Part]:
    """The parts of another checkpoint that stand in for what is lacking."""
    if base is None or not lacking:
        return []
    chosen = [
        Part(part.weights, part.layout, [p for p in part.pieces if of_parts([p.ours], lacking)])
        for part in base.parts
    ]
    return [part for part in chosen if part.pieces]


def _points_without_weights(file: _File, fillers: list[Part], wanted: Mapping[str, torch.Size]) -> list[str]:
    """Parameters that read points, where the layout of the exemplar encoder has none."""
    given = {*file.given, *(piece.ours for part in fillers for piece in part.pieces)}
    if "exemplar_encoder.summary_token" not in given or any(name.startswith(POINTS) for name in given):
        return []
    from_file = "exemplar_encoder.summary_token" in file.given
    if from_file and not file.name.startswith("Hugging Face"):
        return []
    return [name for name in wanted if name.startswith(POINTS)]


def _what_is_lacking(file: _File, lacking: list[str], wanted: Mapping[str, torch.Size]) -> str:
    if not file.layout.whole:
        there = next(CALLED[part] for part in CALLED if part in parts_in(file.given))
        return (
            f"{file.path} holds nothing but a student's {there} (the first stage of EfficientSAM3's "
            "training); the rest of the network comes from a whole one: --geometry-from sam3.pt (in Python "
            "geometry_from=)"
        )
    what = []
    for part in lacking:
        names = foreign_names(file.layout.table, {name: wanted[name] for name in of_parts(wanted, [part])})
        what.append(f"the {CALLED[part]} ({len(names)} keys, {names[0]} and so on)")
    return (
        f"{file.path} ({file.name}) lacks {' and '.join(what)}. If it was left out of the release, it is the "
        "same as in the model that this one was made from: --geometry-from sam3.pt (in Python "
        "geometry_from=) takes what is lacking from there"
    )


def _report(
    file: _File,
    fillers: list[Part],
    base: Checkpoint | None,
    lacking: list[str],
    zeros: Mapping[str, torch.Size],
) -> KeyReport:
    def of(what: str, keys: list[str]) -> KeyGroup:
        return group(what, [file.weights[key] for key in keys])

    read = sorted({key for piece in network_pieces(file.plan) for key in piece.keys})
    # A position table is read for the network, and for the slot that only the way back needs.
    extra = {key for p in file.plan.pieces if p.ours.startswith(UNUSED) for key in p.keys} - set(read)
    kept = sorted(extra | set(file.plan.carried))
    filled = []
    if base is not None and fillers:
        tensors = [part.weights[key] for part in fillers for piece in part.pieces for key in piece.keys]
        filled.append(group(f"{', '.join(CALLED[part] for part in lacking)} of {base.source}", tensors))
    if zeros:
        empty = [torch.empty(shape, device="meta") for shape in zeros.values()]
        filled.append(group("zeros for what reads points, which this layout does not have", empty))
    return KeyReport(
        layout=file.name,
        read=of("network", read),
        carried=of("not used, kept for the way back", kept) if kept else None,
        skipped=tuple(of(reason, keys) for reason, keys in file.plan.skipped.items()),
        filled=tuple(filled),
        prefix=file.plan.prefix,
        nested=file.nested,
    )


def _carried(file: _File, config: ModelConfig) -> dict[str, Tensor]:
    """What the network does not read but the way back needs, by names of ours."""
    kept = {
        piece.ours: piece.make(file.weights, file.name)
        for piece in file.plan.pieces
        if piece.ours.startswith(UNUSED)
    }
    kept |= {ours: file.weights[key] for key, ours in file.plan.carried.items()}
    vision = config.architecture.vision
    tables = file.plan.skipped.get(ROTARY_TABLES.reason, [])
    if tables and isinstance(vision, ViTConfig):
        # Computed again on the way back; only what would not come out the same is kept.
        computed = rotary_tables(vision, config.preprocessing.resolution)
        for key in tables:
            name, table = key[len(file.plan.prefix) :], file.weights[key]
            if name not in computed or not torch.equal(table, computed[name]):
                kept[f"{UNUSED}{name}"] = table
    return kept


def _name(path: Path) -> str:
    """Of the model: of its file, or of its folder when every such file is called the same."""
    return path.parent.name if path.name.startswith(("model.", "pytorch_model.")) else path.stem

"""What can be chosen by name: each list once, for functions, configs and the command line. Needs no torch."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from conceptseg.errors import OptionError, shown

PresenceMode: TypeAlias = Literal["multiply", "ignore", "calibrated"]
DedupeMode: TypeAlias = Literal["none", "nms", "containment"]
OnError: TypeAlias = Literal["raise", "skip"]
LabelStudioRegion: TypeAlias = Literal["polygons", "brush", "boxes"]
LabelFormat: TypeAlias = Literal["coco", "yolo", "labelme", "label-studio"]
PromptKind: TypeAlias = Literal["text", "boxes", "both"]
WeightFormat: TypeAlias = Literal["own", "hf", "official"]
Quantize: TypeAlias = Literal["none", "int8"]
Runtime: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
OtherProgram: TypeAlias = Literal["transformers"]
TrainedPart: TypeAlias = Literal["presence", "exemplar", "heads", "all"]
RepairMethod: TypeAlias = Literal["ignore", "calibrate", "finetune", "distil", "distill"]
RepairLabels: TypeAlias = Literal["all", "none"]
Matching: TypeAlias = Literal["ranks", "pairs"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what is none of the choices, which are one of the lists above.

    Raises:
        OptionError: says what there is.
    """
    if not isinstance(value, str) or value not in get_args(choices):
        known = ", ".join(map(repr, get_args(choices)))
        raise OptionError(f"unknown {name} {shown(value)}; choose {known}")

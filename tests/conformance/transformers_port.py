"""`transformers`' Sam3Model as a port: somebody else's code, asked what a kit asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.conformance.kit import Kit
from conceptseg.models.boxes import xyxy_to_cxcywh

NO_BOX = -10  # the label with which `transformers` marks padding


def open_transformers(kit: Kit, folder: Path) -> Any:
    """The kit's official weights, converted and opened by `from_pretrained`."""
    from transformers import Sam3Model

    convert(open_checkpoint(kit.folder / kit.about["weights"]), folder, "hf")
    return Sam3Model.from_pretrained(folder).eval()


@torch.no_grad()
def transformers_answers(model: Any, kit: Kit) -> dict[str, np.ndarray[Any, Any]]:
    """Stage -> array, as far as hooks reach."""
    from transformers import Sam3ImageProcessor

    asked = {name: torch.from_numpy(value) for name, value in kit.inputs.items()}
    side = kit.about["preprocessing"]["resolution"]
    processor = Sam3ImageProcessor(size={"height": side, "width": side})
    images = [asked[f"image.{i}"].permute(2, 0, 1) for i in range(2)]
    pixels = torch.cat([processor(image, return_tensors="pt").pixel_values for image in images])
    image_index, padding = asked["image_index"], asked["box_padding"]

    caught: dict[str, Tensor] = {}
    handles = _hooks(model, caught)
    output = model(
        pixel_values=pixels[image_index],
        input_ids=asked["token_ids"],
        attention_mask=(asked["token_ids"] != 0).long(),
        input_boxes=asked["boxes_cxcywh"],
        input_boxes_labels=asked["box_labels"].masked_fill(padding, NO_BOX),
    )
    for handle in handles:
        handle.remove()

    # Each prompt has an image of its own here; what is made per image is the same for all of its prompts.
    first_of = [int((image_index == i).nonzero()[0]) for i in range(len(images))]
    for name in [n for n in caught if n.startswith(("trunk", "neck"))]:
        caught[name] = caught[name][first_of]
    depth = sum(name.startswith("trunk.blocks") for name in caught)
    boxes = xyxy_to_cxcywh(output.pred_boxes).transpose(0, 1)
    answers = {
        **caught,
        "pixels": pixels,
        "trunk": caught[f"trunk.blocks.{depth - 1}"].permute(0, 3, 1, 2),
        "exemplar.regions": caught["exemplar.regions"].unflatten(0, padding.shape).transpose(0, 1),
        "class": output.pred_logits.t(),
        "presence": output.presence_logits[:, 0],
        "boxes": boxes,
        "masks": output.pred_masks,
        "semantic": output.semantic_seg,
    }
    layers = sum(name.endswith(".hidden") for name in caught)
    references = output.decoder_reference_boxes.transpose(1, 2)  # what each layer starts from
    for i in range(layers):
        answers[f"decoder.layers.{i}.boxes"] = boxes if i + 1 == layers else references[i + 1]
    sizes = [kit.inputs[f"image.{i}"].shape[:2] for i in image_index.tolist()]
    read = processor.post_process_instance_segmentation(output, kit.about["threshold"], target_sizes=sizes)
    for pair, result in enumerate(read):
        for part in ("scores", "boxes", "masks"):
            answers[f"result.{pair}.{part}"] = result[part]
    return {name: value.numpy() for name, value in answers.items()}


def _hooks(model: Any, caught: dict[str, Tensor]) -> list[Any]:
    def keep(name: str, change: Callable[[Any], Tensor] = lambda made: made) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            caught[name] = change(made[0] if isinstance(made, tuple) else made)

        return hook

    def turned(made: Any) -> Tensor:
        return made.transpose(0, 1)

    def exemplars(module: nn.Module, given: Any, made: Any) -> None:
        caught["exemplar"] = turned(made.last_hidden_state)
        caught["exemplar.padding"] = ~made.attention_mask.bool()

    def decoder(module: nn.Module, given: Any, made: Any) -> None:
        for i, hidden in enumerate(made.intermediate_hidden_states):
            caught[f"decoder.layers.{i}.hidden"] = turned(hidden)
            caught[f"decoder.layers.{i}.presence"] = made.presence_logits[i, :, 0]

    def regions(module: nn.Module, given: Any) -> None:
        caught["exemplar.regions"] = given[0]

    def levels(module: nn.Module, given: Any, made: Any) -> None:
        for i, level in enumerate(made.fpn_hidden_states[:-1]):
            caught[f"neck.{i}"] = level

    trunk, text, shown = model.vision_encoder.backbone, model.text_encoder, model.geometry_encoder
    words = [module for module in text.modules() if type(module).__name__ == "CLIPEncoderLayer"]
    embedding = next(module for module in text.modules() if type(module).__name__ == "CLIPTextEmbeddings")
    handles = [
        trunk.layer_norm.register_forward_hook(keep("trunk.embedding")),
        model.vision_encoder.register_forward_hook(levels),
        embedding.register_forward_hook(keep("text.embedding", turned)),
        model.text_projection.register_forward_hook(keep("text", turned)),
        shown.boxes_pool_project.register_forward_pre_hook(regions),
        shown.prompt_layer_norm.register_forward_hook(keep("exemplar.input", turned)),
        shown.register_forward_hook(exemplars),
        model.detr_encoder.register_forward_hook(keep("memory", lambda made: turned(made.last_hidden_state))),
        model.detr_decoder.register_forward_hook(decoder),
        model.mask_decoder.pixel_decoder.register_forward_hook(keep("mask.pixels")),
    ]
    for name, blocks, change in (
        ("trunk.blocks", trunk.layers, lambda made: made),
        ("text.blocks", words, turned),
        ("exemplar.layers", shown.layers, turned),
        ("fusion.layers", model.detr_encoder.layers, turned),
    ):
        handles += [b.register_forward_hook(keep(f"{name}.{i}", change)) for i, b in enumerate(blocks)]
    return handles

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from conceptseg.losses import DetectionLoss, DetectionLossConfig, LossWeights, Targets
from conceptseg.losses.masks import MaskLossConfig
from conceptseg.models.detector import OneToManyOutput
from conceptseg.models.mask_head import QueryMasks

MakeTargets = Callable[..., Targets]
LAYERS, QUERIES, PAIRS, SIZE = 3, 5, 4, 8


@dataclass
class Answers:
    """What a detector's trace offers to the loss."""

    class_logits: Tensor
    boxes_cxcywh: Tensor
    presence_logits: Tensor
    query_masks: QueryMasks
    semantic_logits: Tensor
    one_to_many: OneToManyOutput | None = None


def masks_of(logits: Tensor) -> QueryMasks:
    """(B, N, h, w) as what gives them: each query reads a map of its own."""
    pairs, queries = logits.shape[:2]
    return QueryMasks(torch.eye(queries, dtype=logits.dtype).expand(pairs, -1, -1), logits)


def random_output(dtype: torch.dtype = torch.float32, one_to_many: bool = True) -> Answers:
    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape).to(dtype).requires_grad_()

    def boxes() -> Tensor:
        return (torch.rand(LAYERS, QUERIES, PAIRS, 4) * 0.4 + 0.2).to(dtype).requires_grad_()

    many = OneToManyOutput(leaf(LAYERS, QUERIES, PAIRS), boxes(), masks_of(leaf(PAIRS, QUERIES, SIZE, SIZE)))
    return Answers(
        class_logits=leaf(LAYERS, QUERIES, PAIRS),
        boxes_cxcywh=boxes(),
        presence_logits=leaf(LAYERS, PAIRS),
        query_masks=masks_of(leaf(PAIRS, QUERIES, SIZE, SIZE)),
        semantic_logits=leaf(PAIRS, 1, SIZE, SIZE),
        one_to_many=many if one_to_many else None,
    )


def leaves(output: Answers) -> dict[str, Tensor]:
    many = output.one_to_many
    assert many is not None
    return {
        "class": output.class_logits,
        "boxes": output.boxes_cxcywh,
        "presence": output.presence_logits,
        "masks": output.query_masks.maps,
        "semantic": output.semantic_logits,
        "o2m class": many.class_logits,
        "o2m boxes": many.boxes_cxcywh,
        "o2m masks": many.query_masks.maps,
    }


def random_targets(slots: int = 3, density: float = 0.7) -> Targets:
    valid = torch.rand(PAIRS, slots) < density
    boxes = torch.rand(PAIRS, slots, 4) * 0.4 + 0.2
    masks = torch.rand(PAIRS, slots, 16, 16) > 0.5
    return Targets(boxes, valid, valid.any(1), masks, valid.clone())


def total(losses: dict[str, Tensor]) -> Tensor:
    weights = LossWeights().by_name()
    return torch.stack([weights[name] * value for name, value in losses.items()]).sum()


def absent_everywhere() -> Targets:
    return random_targets(density=0.0)


def without_slots() -> Targets:
    return random_targets(slots=0)


def more_objects_than_queries() -> Targets:
    return random_targets(slots=QUERIES + 4, density=1.1)


def boxes_only() -> Targets:
    targets = random_targets()
    targets.masks = None
    targets.has_mask[:] = False
    return targets


def some_masks() -> Targets:
    targets = random_targets()
    targets.has_mask[:, 0] = False
    return targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_points", [None, 24])
@pytest.mark.parametrize(
    "make",
    [random_targets, absent_everywhere, without_slots, more_objects_than_queries, boxes_only, some_masks],
)
def test_every_batch_gives_finite_losses_and_gradients(
    make: Callable[[], Targets], num_points: int | None, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    output, targets = random_output(dtype), make()
    criterion = DetectionLoss(DetectionLossConfig(masks=MaskLossConfig(num_points=num_points)))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = criterion(output, targets)
    named = {name for name in LossWeights().by_name() if not name.startswith("region_")}
    assert set(losses) == named
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in losses.values())
    assert all(torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    for name, leaf in leaves(output).items():
        assert leaf.grad is not None, f"{name} is not part of the loss"
        assert torch.isfinite(leaf.grad).all(), name


@pytest.mark.parametrize("make", [absent_everywhere, without_slots])
def test_absent_concepts_teach_presence_alone(make: Callable[[], Targets]) -> None:
    torch.manual_seed(2)
    losses = DetectionLoss()(random_output(), make())
    learning = {name for name, value in losses.items() if value.item() != 0}
    assert learning == {"presence", "aux_presence"}


def test_boxes_without_masks_teach_no_mask() -> None:
    torch.manual_seed(3)
    output = random_output()
    losses = DetectionLoss()(output, boxes_only())
    silent = {name for name, value in losses.items() if value.item() == 0}
    assert silent == {name for name in losses if "mask" in name or "semantic" in name}
    total(losses).backward()
    assert not leaves(output)["masks"].grad.any()  # type: ignore[union-attr]  # exists, and is zero


def test_a_perfect_prediction_costs_next_to_nothing(make_targets: MakeTargets) -> None:
    box = [0.5, 0.5, 0.5, 0.5]
    masks = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    masks[..., 2:6, 2:6] = True
    logits = (masks[0].float() * 2 - 1) * 30
    output = Answers(
        class_logits=torch.tensor([30.0, -30.0]).view(1, 2, 1),
        boxes_cxcywh=torch.tensor([box, [0.1, 0.1, 0.1, 0.1]]).view(1, 2, 1, 4),
        presence_logits=torch.tensor([[30.0]]),
        query_masks=masks_of(torch.cat([logits, -logits])[None]),
        semantic_logits=logits[None],
    )
    losses = DetectionLoss()(output, make_targets([[box]], masks))
    assert not any(name.startswith(("aux", "o2m")) for name in losses)
    assert all(abs(value.item()) < 1e-5 for value in losses.values()), losses


def test_box_losses_are_divided_by_the_number_of_boxes(make_targets: MakeTargets) -> None:
    # Two pairs, one object each, boxes off by 0.1 in x: (0.1 + 0.1) / 2 objects; num_boxes 8: a quarter.
    targets = make_targets([[[0.5, 0.5, 0.2, 0.2]], [[0.3, 0.3, 0.2, 0.2]]])
    boxes = torch.tensor([[0.6, 0.5, 0.2, 0.2], [0.4, 0.3, 0.2, 0.2]]).view(1, 1, 2, 4)
    output = Answers(
        class_logits=torch.zeros(1, 1, 2),
        boxes_cxcywh=boxes,
        presence_logits=torch.zeros(1, 2),
        query_masks=masks_of(torch.zeros(2, 1, SIZE, SIZE)),
        semantic_logits=torch.zeros(2, 1, SIZE, SIZE),
    )
    losses = DetectionLoss()(output, targets)
    assert losses["box_l1"].item() == pytest.approx(0.1)
    # overlap 0.1 x 0.2 of union 0.3 x 0.2, which is the hull: 1 - 1/3
    assert losses["box_giou"].item() == pytest.approx(2 / 3)
    assert DetectionLoss()(output, targets, num_boxes=8)["box_l1"].item() == pytest.approx(0.025)


def test_auxiliary_losses_are_the_sum_over_their_layers() -> None:
    torch.manual_seed(4)
    output, targets = random_output(one_to_many=False), random_targets()
    for name in ("class_logits", "boxes_cxcywh", "presence_logits"):
        value = getattr(output, name)
        setattr(output, name, value[-1:].expand_as(value))
    losses = DetectionLoss()(output, targets)
    for name in ("class", "box_l1", "box_giou", "presence"):
        torch.testing.assert_close(losses[f"aux_{name}"], 2 * losses[name])


def test_the_semantic_map_is_judged_unless_it_is_left_out() -> None:
    torch.manual_seed(5)
    output, targets = random_output(), random_targets()
    whole, without = DetectionLoss()(output, targets), DetectionLoss()(output, targets, dense=False)
    assert set(whole) - set(without) == {"semantic_focal", "semantic_dice"}


def test_weights_default_to_the_released_recipe() -> None:
    weights = LossWeights().by_name()
    assert weights["class"] == 20 and weights["mask_focal"] == 200 and weights["aux_box_l1"] == 5
    assert weights["o2m_class"] == 40 and weights["o2m_mask_dice"] == 20 and weights["o2m_aux_box_giou"] == 4
    assert "o2m_presence" not in weights  # one-to-many queries share the presence token

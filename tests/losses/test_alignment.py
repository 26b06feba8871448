"""Alignment of exemplars with the image: values worked by hand, padding, and gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from conceptseg.errors import ConfigError, ShapeError
from conceptseg.losses.alignment import (
    ANALYSED,
    CONTRASTIVE,
    DISTILLATION,
    AlignmentConfig,
    AlignmentLoss,
    contrastive_alignment,
    example_alignment,
    other_objects,
    roi_distillation,
    tokens_under_boxes,
)
from conceptseg.models.exemplar.encoder import pool_regions

FORMS = ("sigmoid", "info_nce")
# One image of three tokens: along x, along y, and between the two.
TOKENS = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
ALONG_X = torch.tensor([[[5.0, 0.0]]])
HALF = math.sqrt(0.5)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_sigmoid_form_by_hand() -> None:
    # Cosines 1, 0 and 0.707 at temperature 0.5: logits 2, 0 and 1.414; the first is its own.
    loss = contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[0]]), temperature=0.5)
    expected = (softplus(-2) + (softplus(0) + softplus(2 * HALF)) / 2) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_by_hand() -> None:
    loss = contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[0]]), temperature=0.5, form="info_nce")
    expected = math.log(math.exp(2) + math.exp(0) + math.exp(2 * HALF)) - 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_tokens_that_another_exemplar_sits_on_are_no_negatives() -> None:
    exemplars = torch.tensor([[[5.0, 0.0], [0.0, 1.0]]])
    loss = contrastive_alignment(exemplars, TOKENS, torch.tensor([[0, 1]]), temperature=0.5)
    assert loss.item() == pytest.approx((softplus(-2) + softplus(2 * HALF)) / 2, abs=1e-6)
    # The same two exemplars as two prompts on one image.
    apart = contrastive_alignment(
        exemplars.transpose(0, 1),
        TOKENS.expand(2, -1, -1),
        torch.tensor([[0], [1]]),
        temperature=0.5,
        image_index=torch.tensor([3, 3]),
    )
    torch.testing.assert_close(apart, loss)


@pytest.mark.parametrize("form", FORMS)
def test_two_exemplars_on_one_token_count_twice_and_take_it_once(form) -> None:
    one = contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[0]]), form=form)
    two = contrastive_alignment(ALONG_X.expand(-1, 2, -1), TOKENS, torch.tensor([[0, 0]]), form=form)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_whatever_it_holds(form) -> None:
    bare = contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[0]]), form=form)
    for held in (0.0, 9.0, float("nan")):
        exemplars = torch.cat((ALONG_X, torch.full((1, 2, 2), held)), dim=1).requires_grad_()
        padded = contrastive_alignment(exemplars, TOKENS, torch.tensor([[0, -1, -1]]), form=form)
        torch.testing.assert_close(padded.detach(), bare)
        padded.backward()
        assert exemplars.grad is not None and exemplars.grad[0, 1:].eq(0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("matches", (torch.zeros(2, 0, dtype=torch.long), torch.full((2, 3), -1)))
def test_no_boxes_gives_zero_alignment_loss_not_nan(form, matches: Tensor) -> None:
    exemplars = torch.randn(2, matches.shape[1], 4, requires_grad=True)
    tokens = torch.randn(2, 5, 4, requires_grad=True)
    loss = contrastive_alignment(exemplars, tokens, matches, form=form)
    loss.backward()
    assert loss.item() == 0 and tokens.grad is not None and tokens.grad.eq(0).all()
    assert exemplars.grad is not None and exemplars.grad.eq(0).all()


def test_a_map_of_one_token_has_no_negatives() -> None:
    token = torch.tensor([[[1.0, 0.0]]])
    sigmoid = contrastive_alignment(ALONG_X, token, torch.tensor([[0]]), temperature=0.5)
    assert sigmoid.item() == pytest.approx(softplus(-2) / 2, abs=1e-6)
    assert contrastive_alignment(ALONG_X, token, torch.tensor([[0]]), form="info_nce").item() == 0


@pytest.mark.parametrize("form", FORMS)
def test_opposite_vectors_at_a_low_temperature_do_not_overflow(form) -> None:
    tokens = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]]], requires_grad=True)
    loss = contrastive_alignment(ALONG_X, tokens, torch.tensor([[0]]), temperature=1e-4, form=form)
    loss.backward()
    assert loss.isfinite() and tokens.grad is not None and tokens.grad.isfinite().all()


def test_only_so_many_negatives_are_drawn_and_never_a_matched_one() -> None:
    torch.manual_seed(0)
    tokens = torch.eye(6)[None]
    exemplar = torch.ones(1, 1, 6)
    values = {
        round(contrastive_alignment(exemplar, tokens, torch.tensor([[2]]), negatives=n).item(), 5)
        for n in (1, 3, 5, 500)
    }
    assert len(values) == 1  # all negatives are alike here, so drawing fewer changes no mean
    exemplar = torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]])
    for _ in range(20):
        own_only = contrastive_alignment(exemplar, tokens, torch.tensor([[2]]), 1.0, negatives=2)
        assert own_only.item() == pytest.approx((softplus(-1) + softplus(0)) / 2, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_contrastive_gradients_are_those_of_finite_differences(form) -> None:
    generator = torch.Generator().manual_seed(2)
    exemplars = torch.randn(2, 3, 4, dtype=torch.double, generator=generator).requires_grad_()
    tokens = torch.randn(2, 5, 4, dtype=torch.double, generator=generator).requires_grad_()
    matches = torch.tensor([[0, 3, -1], [2, 2, 4]])
    # Every negative is drawn, so that the function is the same at every call.
    assert torch.autograd.gradcheck(
        lambda e, t: contrastive_alignment(e, t, matches, temperature=0.3, negatives=5, form=form),
        (exemplars, tokens),
    )


def test_examples_are_told_from_each_other_by_hand() -> None:
    """Two prompts of one box: along x and along y, over features along x and between the two."""
    exemplars = torch.tensor([[[4.0, 0.0]], [[0.0, 2.0]]])
    features = torch.tensor([[[1.0, 0.0]], [[3.0, 3.0]]])
    others = torch.tensor([[[[False], [True]]], [[[True], [False]]]])
    loss = example_alignment(exemplars, features, others, temperature=0.5)
    first = math.log(math.exp(2) + math.exp(2 * HALF)) - 2  # own 1, the other's 0.707
    second = math.log(math.exp(2 * HALF) + math.exp(0)) - 2 * HALF  # own 0.707, the other's 0
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    sigmoid = example_alignment(exemplars, features, others, temperature=0.5, form="sigmoid")
    own = (softplus(-2) + softplus(-2 * HALF)) / 2
    against = (softplus(2 * HALF) + softplus(0)) / 2
    assert sigmoid.item() == pytest.approx((own + against) / 2, abs=1e-6)


def test_other_objects_are_those_of_other_prompts_that_do_not_overlap() -> None:
    left, right, nearly_left = [0.2, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2], [0.21, 0.5, 0.2, 0.2]
    # Two prompts on one image, one on another.
    boxes = torch.tensor([[left, right], [nearly_left, right], [left, left]])
    padding = torch.tensor([[False, False], [False, True], [False, False]])
    others = other_objects(boxes, padding, torch.tensor([4, 4, 7]))
    assert others[0, 0].tolist() == [[False, False], [False, False], [True, True]]
    assert others[0, 1].tolist() == [[False, False], [True, False], [True, True]]
    assert others[1, 0].tolist() == [[False, True], [False, False], [True, True]]
    assert not others[1, 1].any() and not others[:, :, 1, 1].any()  # padding
    assert others[2, 1].tolist() == [[True, True], [True, False], [False, False]]


@pytest.mark.parametrize("form", FORMS)
def test_padding_and_lonely_examples_teach_nothing_of_others(form) -> None:
    exemplars, boxes, padding, features, index = example_batch()
    loss = AlignmentLoss(8, AlignmentConfig(contrastive=form, projected=True))
    bare = loss(exemplars, boxes, padding, features, index)[CONTRASTIVE]
    held = torch.cat((exemplars.detach(), torch.full((1, 3, 8), float("nan")))).requires_grad_()
    more = torch.cat((boxes, torch.full((3, 1, 4), 7.0)), 1)
    padded = loss(held, more, torch.cat((padding, ~padding[:, :1]), 1), features, index)[CONTRASTIVE]
    torch.testing.assert_close(padded, bare)
    padded.backward()
    assert held.grad is not None and held.grad[-1].eq(0).all() and held.grad[:-1].abs().sum() > 0
    one = slice(0, 1)
    alone = loss(exemplars[:, one], boxes[one], padding[one], features, index[one])[CONTRASTIVE]
    alone.backward()
    assert alone.item() == 0
    with pytest.raises(ShapeError, match=r"they are \(B, M, D\) twice"):
        example_alignment(exemplars, exemplars, padding)


def test_examples_told_from_each_other_come_nearest_to_their_own_feature() -> None:
    """In the space that the network reads: nothing between may take the loss upon itself."""
    exemplars, *rest = example_batch(1)
    loss = AlignmentLoss(8)
    assert not list(loss.parameters())
    _, padding, features, index = rest
    boxes = torch.tensor([[[0.3, 0.3, 0.3, 0.3]], [[0.3, 0.3, 0.3, 0.3]], [[0.8, 0.7, 0.3, 0.3]]])
    under = pool_regions(features.detach(), index, boxes, 7).mean((3, 4))[:, 0]  # (B, D)
    tokens = torch.nn.Parameter(-under[None])  # as far from its own feature as can be
    optimiser = torch.optim.Adam([tokens], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(tokens, boxes, padding, features.detach(), index)[CONTRASTIVE].backward()
        optimiser.step()
    cosine = torch.nn.functional.cosine_similarity(tokens[0][:, None], under[None], dim=-1)
    assert cosine.argmax(1).tolist() == [0, 1, 2]


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"they are \(B, M, D\), \(B, HW, D\) and \(B, M\)"):
        contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[0, 1]]))
    with pytest.raises(ShapeError, match="a match is 3; there are 3 image tokens"):
        contrastive_alignment(ALONG_X, TOKENS, torch.tensor([[3]]))
    with pytest.raises(ShapeError, match="do not fit"):
        roi_distillation(ALONG_X, TOKENS, torch.zeros(1, 1, dtype=torch.bool))


def test_an_exemplar_sits_on_the_token_under_its_centre() -> None:
    boxes = torch.tensor([[[0.1, 0.1, 0.2, 0.2], [0.99, 0.4, 0.5, 0.5], [1.0, 1.0, 0.1, 0.1]]])
    padding = torch.tensor([[False, False, False]])
    assert tokens_under_boxes(boxes, padding, (2, 4)).tolist() == [[0, 3, 7]]
    assert tokens_under_boxes(boxes, ~padding, (2, 4)).tolist() == [[-1, -1, -1]]


def test_roi_distillation_by_hand() -> None:
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]]], requires_grad=True)
    teacher = torch.tensor([[[0.0, 0.0], [0.0, 4.0], [1.0, 1.0]]], requires_grad=True)
    loss = roi_distillation(predicted, teacher, torch.tensor([[False, False, True]]))
    assert loss.item() == pytest.approx((2.5 + 8.0) / 2)
    loss.backward()
    # d/dp of the mean over two boxes of the mean over two channels: (p - t) / 2.
    assert predicted.grad is not None and teacher.grad is None
    assert predicted.grad.tolist() == [[[0.5, 1.0], [0.0, -2.0], [0.0, 0.0]]]
    assert roi_distillation(predicted, teacher, torch.ones(1, 3, dtype=torch.bool)).item() == 0


def test_roi_distillation_gradients_are_those_of_finite_differences() -> None:
    predicted = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    teacher, padding = torch.randn(2, 3, 4, dtype=torch.double), torch.tensor([[False] * 3, [True] * 3])
    assert torch.autograd.gradcheck(lambda p: roi_distillation(p, teacher, padding), (predicted,))


def example_batch(boxes: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    exemplars = torch.randn(boxes, 3, 8, requires_grad=True)
    sides = torch.rand(3, boxes, 4) * 0.4 + 0.3
    padding = torch.zeros(3, boxes, dtype=torch.bool)
    features = torch.randn(2, 8, 6, 6, requires_grad=True)
    return exemplars, sides, padding, features, torch.tensor([0, 1, 1])


def test_both_losses_are_named_and_reach_the_exemplars() -> None:
    batch = example_batch()
    losses = AlignmentLoss(8, AlignmentConfig(distillation=True))(*batch)
    assert set(losses) == {CONTRASTIVE, DISTILLATION} == set(ANALYSED.names)
    losses[DISTILLATION].backward(retain_graph=True)
    assert batch[0].grad is not None and batch[0].grad.abs().sum() > 0
    assert batch[3].grad is None  # the teacher is frozen
    losses[CONTRASTIVE].backward()
    assert batch[3].grad is not None and batch[3].grad.abs().sum() > 0


def test_losses_can_be_chosen_one_by_one() -> None:
    for contrastive, distillation, projected in itertools.product(
        ("info_nce", "sigmoid", "none"), (False, True), (False, True)
    ):
        config = AlignmentConfig(contrastive, projected=projected, distillation=distillation)  # type: ignore[arg-type]
        loss = AlignmentLoss(8, config)
        assert tuple(loss(*example_batch())) == config.names
        assert (loss.projection is not None) == (projected and contrastive != "none")
        assert (loss.to_teacher is not None) == distillation
    with pytest.raises(ConfigError, match="temperature is 0"):
        AlignmentConfig(temperature=0)
    with pytest.raises(ConfigError, match="negatives is 0"):
        AlignmentConfig(negatives=0)


def test_roi_distillation_can_tell_the_features_of_a_teacher() -> None:
    """Of another width and size; nothing is told where there are none, and the contrastive loss stays."""
    batch = example_batch()
    loss = AlignmentLoss(8, ANALYSED, teacher_width=5)
    assert set(loss(*batch)) == {CONTRASTIVE}
    flat = torch.ones(2, 5, 3, 3) * torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)  # (I, T, h, w)
    assert loss.to_teacher is not None
    with torch.no_grad():
        for weight in loss.to_teacher.parameters():
            weight.zero_()
    told = loss(*batch, taught=flat)[DISTILLATION]
    expected = (flat[batch[-1], 0, 0, 0] ** 2).mean()  # zero is said, and the teacher's feature is flat
    assert told.item() == pytest.approx(expected.item(), rel=1e-5)
    told.backward()
    assert batch[3].grad is None


def test_a_batch_without_boxes_teaches_nothing() -> None:
    exemplars, sides, padding, features, index = example_batch()
    for given in ((exemplars, sides, ~padding), (exemplars[:0], sides[:, :0], padding[:, :0])):
        for config in (ANALYSED, AlignmentConfig(distillation=True)):
            losses = AlignmentLoss(8, config)(*given, features, index)
            sum(losses.values(), start=torch.tensor(0.0)).backward()
            assert [value.item() for value in losses.values()] == [0, 0]


def test_training_on_the_losses_brings_exemplars_nearer() -> None:
    exemplars, *rest = example_batch()
    loss = AlignmentLoss(8, ANALYSED)
    tokens = torch.nn.Parameter(exemplars.detach())
    optimiser = torch.optim.Adam([tokens, *loss.parameters()], lr=0.05)
    first = last = 0.0
    for step in range(40):
        torch.manual_seed(0)
        total = torch.stack(list(loss(tokens, *rest).values())).sum()
        first, last = (total.item(), total.item()) if step == 0 else (first, total.item())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert last < 0.5 * first


def test_autocast_does_not_round_the_cosines() -> None:
    exemplars, tokens = torch.randn(1, 3, 32), torch.randn(1, 40, 32)
    exact = contrastive_alignment(exemplars, tokens, torch.tensor([[0, 1, 2]]), negatives=40)
    with torch.autocast("cpu", torch.bfloat16):
        cast = contrastive_alignment(exemplars, tokens, torch.tensor([[0, 1, 2]]), negatives=40)
    torch.testing.assert_close(cast, exact, atol=1e-6, rtol=1e-6)

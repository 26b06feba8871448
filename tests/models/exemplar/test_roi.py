"""The released exemplar encoder: what each token is made of."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.models.exemplar.roi import RoiExemplarEncoder
from conceptseg.models.layers.positions import sine_of_exemplar_boxes, sine_of_map, sine_of_points
from conceptseg.models.prompts import GeometricPrompt, PromptTokens
from tests.models.tiny import randomise

WIDTH, SIDE = 8, 6
CPU = torch.device("cpu")


def encoder(layers: int = 1) -> RoiExemplarEncoder:
    module = RoiExemplarEncoder(WIDTH, layers, heads=2, mlp_width=12, roi_size=2).eval()
    randomise(module)
    return module.requires_grad_(False)


def features(images: int = 2) -> Tensor:
    return torch.randn(images, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(4))


def encode(
    module: RoiExemplarEncoder, prompt: GeometricPrompt | None, index: list[int], maps: Tensor | None = None
) -> PromptTokens:
    positions = sine_of_map(SIDE, SIDE, WIDTH, CPU)
    return module(features() if maps is None else maps, positions, torch.tensor(index), prompt)


BOX = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]])
POSITIVE = torch.tensor([[1]])


def test_the_summary_token_comes_last_and_is_never_padding() -> None:
    module = encoder(layers=0)
    prompt = GeometricPrompt(
        BOX, POSITIVE, points_xy=torch.tensor([[[0.2, 0.3], [0.4, 0.1]]]), point_labels=torch.tensor([[1, 0]])
    )
    tokens = encode(module, prompt, [0])
    assert tokens.tokens.shape == (4, 1, WIDTH) and not tokens.padding_mask.any()
    alone = encode(module, None, [0])
    assert alone.tokens.shape == (1, 1, WIDTH)
    torch.testing.assert_close(tokens.tokens[-1], alone.tokens[0])
    summary = module.output_norm(module.input_norm(module.input_projection(module.summary_token)))
    torch.testing.assert_close(alone.tokens[0], summary)


def test_points_come_before_boxes() -> None:
    module = encoder(layers=0)
    point = GeometricPrompt(points_xy=torch.tensor([[[0.2, 0.3]]]), point_labels=POSITIVE)
    both = dataclasses.replace(point, boxes_cxcywh=BOX, box_labels=POSITIVE)
    tokens = encode(module, both, [0]).tokens
    torch.testing.assert_close(tokens[0], encode(module, point, [0]).tokens[0])
    torch.testing.assert_close(tokens[1], encode(module, GeometricPrompt(BOX, POSITIVE), [0]).tokens[0])


def test_a_box_token_is_label_coordinates_features_and_position() -> None:
    module, maps = encoder(layers=0), features(1)
    normalised = module.pooling_norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    # The box spans tokens 1.5 to 4.5 of 6: four bins of 1.5, each sampled at its four quarter points.
    centres = torch.tensor([1.5 + 0.375, 1.5 + 1.125, 3.0 + 0.375, 3.0 + 1.125])
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")[::-1], dim=-1) / (SIDE - 1) * 2 - 1
    samples = F.grid_sample(normalised, grid[None], align_corners=True)  # (1, D, 4, 4)
    pooled = F.avg_pool2d(samples, 2)  # (1, D, 2, 2)
    token = (
        module.label_embedding.weight[1]
        + module.box_coordinates(BOX[0, 0])
        + module.box_features(pooled).flatten()
        + module.box_position(sine_of_exemplar_boxes(BOX[0, 0], WIDTH))
    )
    expected = module.output_norm(module.input_norm(module.input_projection(token)))
    actual = encode(module, GeometricPrompt(BOX, POSITIVE), [0], maps).tokens[0, 0]
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_a_point_token_samples_the_image_where_it_lies() -> None:
    module, maps = encoder(layers=0), features(1)
    normalised = module.pooling_norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    # The middle of token (row 2, column 4).
    point = torch.tensor([[[4.5 / SIDE, 2.5 / SIDE]]])
    token = (
        module.label_embedding.weight[0]
        + module.point_coordinates(point[0, 0])
        + module.point_features(normalised[0, :, 2, 4])
        + module.point_position(sine_of_points(point[0, 0], WIDTH))
    )
    expected = module.output_norm(module.input_norm(module.input_projection(token)))
    prompt = GeometricPrompt(points_xy=point, point_labels=torch.tensor([[0]]))
    torch.testing.assert_close(encode(module, prompt, [0], maps).tokens[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_boxes_are_read_from_the_image_of_their_prompt() -> None:
    module = encoder()
    prompt = GeometricPrompt(BOX.expand(2, -1, -1), POSITIVE.expand(2, -1))
    tokens = encode(module, prompt, [1, 0]).tokens
    for pair, image in enumerate((1, 0)):
        alone = encode(module, GeometricPrompt(BOX, POSITIVE), [0], features()[image : image + 1])
        torch.testing.assert_close(tokens[:, pair], alone.tokens[:, 0], atol=1e-5, rtol=1e-5)


def test_boxes_beyond_the_edge_are_not_clamped() -> None:
    module = encoder(layers=0)
    beyond = encode(module, GeometricPrompt(torch.tensor([[[1.0, 0.5, 0.6, 0.5]]]), POSITIVE), [0]).tokens
    clipped = encode(module, GeometricPrompt(torch.tensor([[[0.85, 0.5, 0.3, 0.5]]]), POSITIVE), [0]).tokens
    assert (beyond - clipped).abs().max() > 1e-3


def test_the_summary_token_reads_boxes_and_image() -> None:
    module = encoder()
    plain = encode(module, None, [0]).tokens[-1]
    with_box = encode(module, GeometricPrompt(BOX, POSITIVE), [0]).tokens[-1]
    elsewhere = encode(module, None, [1]).tokens[-1]
    assert (plain - with_box).abs().max() > 1e-3 and (plain - elsewhere).abs().max() > 1e-3

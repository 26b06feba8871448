"""Rotary positions against the complex numbers they stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from conceptseg.models.layers.rope import axial_rope_table, rotate

CPU = torch.device("cpu")
HEAD, HEIGHT, ACROSS = 16, 3, 5


def complex_rotation(x: Tensor, scale: float) -> Tensor:
    """Adjacent channels as one complex number each, turned by x in the first half and by y in the second."""
    frequencies = 10000.0 ** (-4.0 * torch.arange(HEAD // 4) / HEAD)
    token = torch.arange(HEIGHT * ACROSS)
    column, row = (token % ACROSS) * scale, (token // ACROSS) * scale
    angle = torch.cat((torch.outer(column, frequencies), torch.outer(row, frequencies)), dim=-1)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(turned).flatten(-2)


def test_rotation_equals_the_complex_formula() -> None:
    x = torch.randn(2, 4, HEIGHT * ACROSS, HEAD)
    for scale in (1.0, 1 / 3):
        cos, sin = axial_rope_table(HEIGHT, ACROSS, HEAD, 10000.0, scale, CPU)
        torch.testing.assert_close(rotate(x, cos, sin), complex_rotation(x, scale), atol=1e-6, rtol=1e-5)


def test_attention_logits_depend_on_the_distance_of_two_tokens_only() -> None:
    cos, sin = axial_rope_table(HEIGHT, ACROSS, HEAD, 10000.0, 1.0, CPU)
    query, key = torch.randn(HEAD), torch.randn(HEAD)
    q = rotate(query.expand(HEIGHT * ACROSS, -1), cos, sin)
    k = rotate(key.expand(HEIGHT * ACROSS, -1), cos, sin)
    logits = q @ k.t()
    # From (row 0, column 1) to (1, 3), and from (1, 2) to (2, 4): both one down and two to the right.
    torch.testing.assert_close(logits[1, 8], logits[7, 14], atol=1e-4, rtol=1e-4)


def test_rotation_is_computed_in_float32_and_cast_back() -> None:
    cos, sin = axial_rope_table(HEIGHT, ACROSS, HEAD, 10000.0, 1.0, CPU)
    x = torch.randn(HEIGHT * ACROSS, HEAD).bfloat16()
    rotated = rotate(x, cos, sin)
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, rotate(x.float(), cos, sin).bfloat16())


def test_a_traced_rotation_has_no_complex_numbers() -> None:
    class Rotation(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rotate(x, *axial_rope_table(HEIGHT, ACROSS, HEAD, 10000.0, 1.0, CPU))

    with torch.no_grad():
        graph = torch.export.export(Rotation(), (torch.randn(2, HEIGHT * ACROSS, HEAD),)).graph
    values = [node.meta["val"] for node in graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert len(values) > 5 and not any(value.is_complex() for value in values)

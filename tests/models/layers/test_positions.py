"""Position encodings: values by hand, orders of coordinates, and the tables that are kept."""

from __future__ import annotations

import math

import pytest
import torch

from conceptseg.models.layers import positions, rope
from conceptseg.models.layers.positions import (
    sine_of_coordinate,
    sine_of_exemplar_boxes,
    sine_of_map,
    sine_of_points,
    sine_of_reference_boxes,
)

CPU = torch.device("cpu")


def test_channels_alternate_sine_and_cosine_of_falling_frequencies() -> None:
    encoded = sine_of_coordinate(torch.tensor(0.25), 4)
    slow = 2 * math.pi * 0.25 / 10000**0.5
    expected = [math.sin(math.pi / 2), math.cos(math.pi / 2), math.sin(slow), math.cos(slow)]
    torch.testing.assert_close(encoded, torch.tensor(expected), atol=1e-6, rtol=0)


def test_a_map_counts_from_one_and_carries_y_before_x() -> None:
    table = sine_of_map(4, 5, 8, CPU)
    assert table.shape == (8, 4, 5)
    torch.testing.assert_close(table[:4, 1, 3], sine_of_coordinate(torch.tensor(2 / (4 + 1e-6)), 4))
    torch.testing.assert_close(table[4:, 1, 3], sine_of_coordinate(torch.tensor(4 / (5 + 1e-6)), 4))


def test_every_kind_of_prompt_keeps_its_own_order_of_coordinates() -> None:
    x, y, w, h = (sine_of_coordinate(torch.tensor(v), 4) for v in (0.1, 0.2, 0.3, 0.4))
    box = torch.tensor([0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(sine_of_points(box[:2], 8), torch.cat((x, y)))
    torch.testing.assert_close(sine_of_exemplar_boxes(box, 8), torch.cat((y, x, torch.tensor([0.4, 0.3]))))
    torch.testing.assert_close(sine_of_reference_boxes(box, 8), torch.cat((y, x, w, h)))


def test_tables_are_made_once_per_size() -> None:
    assert sine_of_map(6, 7, 8, CPU) is sine_of_map(6, 7, 8, CPU)
    assert sine_of_map(6, 7, 8, CPU) is not sine_of_map(7, 6, 8, CPU)
    assert (
        rope.axial_rope_table(2, 3, 8, 10000.0, 1.0, CPU)[0]
        is rope.axial_rope_table(2, 3, 8, 10000.0, 1.0, CPU)[0]
    )


@pytest.fixture
def empty_caches() -> None:
    positions._map_table.cache_clear()
    rope._table.cache_clear()


@pytest.mark.usefixtures("empty_caches")
def test_tables_made_in_inference_mode_serve_training_later() -> None:
    with torch.inference_mode():
        sine_of_map(3, 3, 8, CPU)
        rope.axial_rope_table(3, 3, 8, 10000.0, 1.0, CPU)
    weight = torch.ones(8, 1, 1, requires_grad=True)
    (weight * sine_of_map(3, 3, 8, CPU)).sum().backward()
    x = torch.ones(9, 8, requires_grad=True)
    rope.rotate(x, *rope.axial_rope_table(3, 3, 8, 10000.0, 1.0, CPU)).sum().backward()
    assert weight.grad is not None and x.grad is not None


@pytest.mark.usefixtures("empty_caches")
def test_tracing_leaves_nothing_behind_in_the_caches() -> None:
    class Tables(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            cos, sin = rope.axial_rope_table(3, 3, 8, 10000.0, 1.0, CPU)
            return rope.rotate(x, cos, sin) + sine_of_map(3, 3, 8, CPU).flatten(1).t()

    x = torch.randn(9, 8)
    exported = torch.export.export(Tables(), (x,), strict=False).module()
    assert type(sine_of_map(3, 3, 8, CPU)) is torch.Tensor
    torch.testing.assert_close(Tables()(x), exported(x))

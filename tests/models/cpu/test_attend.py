"""Attention in blocks is attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.models.cpu import attend as module
from conceptseg.models.cpu.attend import attend, attend_in_blocks, attend_in_parts
from conceptseg.models.cpu.training import training_kernels


def inputs(dtype: torch.dtype, queries: int = 37, keys: int = 53) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, three heads, cut out of one projection as the encoders do: not contiguous."""
    torch.manual_seed(0)
    q = torch.randn(2, queries, 3, 8, dtype=dtype).transpose(1, 2)
    k, v = torch.randn(2, 2, keys, 3, 8, dtype=dtype).transpose(2, 3)
    return q, k, v


@pytest.mark.parametrize("block", [1, 500, 2_000, 10**6])
def test_blocks_of_any_size_give_what_the_fused_kernel_gives(block: int) -> None:
    q, k, v = inputs(torch.float32)
    read = attend_in_blocks(q, k, v, block)
    assert read.shape == q.shape
    assert torch.allclose(read, F.scaled_dot_product_attention(q, k, v), atol=1e-6)


@pytest.mark.parametrize("block", [1, 500, 10**6])
def test_a_bias_is_added_to_the_logits_of_its_block(block: int) -> None:
    q, k, v = inputs(torch.float32)
    bias = torch.randn(2, 3, 37, 53) * 3
    read = attend_in_blocks(q, k, v, block, bias)
    assert torch.allclose(read, F.scaled_dot_product_attention(q, k, v, attn_mask=bias), atol=1e-6)


def test_a_value_that_is_no_number_is_not_hidden() -> None:
    q, k, v = inputs(torch.float32)
    q[0, 0, 0, 0] = float("nan")
    assert attend_in_blocks(q, k, v)[0, 0, 0].isnan().all()


@pytest.mark.parametrize("scale", [30.0, -30.0, 3000.0])
def test_rows_whose_powers_leave_the_number_range_are_done_the_safe_way(scale: float) -> None:
    q, k, v = inputs(torch.float32)
    q[0, 1, 5:9] = 0
    q[0, 1, 5:9, 0] = scale
    k[0, 1, :, 0] = 20 + k[0, 1, :, 0].abs()  # one row in range, its neighbours far above or below it
    read = attend_in_blocks(q, k, v, 500)
    torch.testing.assert_close(read, F.scaled_dot_product_attention(q, k, v), atol=2e-4, rtol=1e-4)
    biased = attend_in_blocks(q, k, v, 500, torch.full((2, 3, 37, 53), -200.0))
    torch.testing.assert_close(biased, read, atol=2e-4, rtol=1e-4)


def test_a_key_that_a_bias_closes_is_not_read() -> None:
    q, k, v = inputs(torch.bfloat16)
    bias = torch.zeros(2, 3, 37, 53, dtype=torch.bfloat16)
    bias[..., 20:] = float("-inf")
    read = attend_in_blocks(q, k, v, bias=bias)
    expected = F.scaled_dot_product_attention(q, k[:, :, :20], v[:, :, :20])
    torch.testing.assert_close(read, expected, atol=3e-2, rtol=2e-2)


def test_half_precision_is_as_near_to_the_exact_answer_as_rounded_inputs_are() -> None:
    q, k, v = inputs(torch.bfloat16, 300, 300)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    error = (attend_in_blocks(q, k, v).double() - exact).norm() / exact.norm()
    assert error < 2**-7


@pytest.mark.parametrize("together", [1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_in_parts_has_the_gradients_of_the_fused_kernel(
    together: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(module, "BLOCK_BYTES", together * 3 * 37 * 53 * 4)
    q, k, v = (x.repeat(2, 1, 1, 1)[:3].requires_grad_() for x in inputs(torch.float32))
    bias = (torch.randn(3, 3, 37, 53) * 3).requires_grad_() if biased else None
    wanted = [q, k, v] if bias is None else [q, k, v, bias]
    weight = torch.randn(3, 3, 37, 8)
    read, expected = attend_in_parts(q, k, v, bias), F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(read, expected, atol=1e-6, rtol=1e-5)
    gradients = torch.autograd.grad((read * weight).sum(), wanted)
    for gradient, exact in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(gradient, exact, atol=1e-6, rtol=1e-4)


def test_large_half_precision_attention_on_a_cpu_goes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    trained: list[int] = []
    honest, with_gradient = module.attend_in_blocks, module.attend_in_parts

    def note(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(q.shape[-2])
        return honest(q, k, v, bias=bias)

    def note_trained(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        trained.append(q.shape[-2])
        return with_gradient(q, k, v, bias=bias)

    monkeypatch.setattr("conceptseg.models.cpu.choice.cpu_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(module, "attend_in_blocks", note)
    monkeypatch.setattr(module, "attend_in_parts", note_trained)
    half, small, full = (
        inputs(torch.bfloat16, 300, 300),
        inputs(torch.bfloat16),
        inputs(torch.float32, 300, 300),
    )
    attend(*half)
    assert not trained
    with training_kernels(torch.zeros(1, 3, 64, 64), bfloat16=True):
        attend(*half)
        attend(*small)
        attend(*full)
        attend(*half, dropout=0.1)
    assert trained == [300, 300]
    assert not seen  # gradients are wanted
    with torch.no_grad():
        attend(*small)
        attend(*full)
        attend(*half, mask=torch.zeros(300, 300, dtype=torch.bfloat16))
        attend(*half, causal=True)
        assert not seen
        attend(*half)
        attend(*half, mask=torch.zeros(2, 3, 300, 300, dtype=torch.bfloat16))
        attend(*half, asking="fused")
    assert seen == [300, 300]
    assert trained == [300, 300]


def test_gradients_flow_where_they_are_wanted() -> None:
    q, k, v = (x.float().requires_grad_() for x in inputs(torch.bfloat16, 300, 300))
    attend(q.bfloat16(), k.bfloat16(), v.bfloat16()).sum().backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in (q, k, v))

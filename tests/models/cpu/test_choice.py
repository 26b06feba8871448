"""Which attention a processor uses, and who may say otherwise."""

from __future__ import annotations

import pytest
import torch

from conceptseg.errors import OptionError
from conceptseg.models.cpu import choice
from conceptseg.models.cpu.choice import ROWS_VARIABLE, VARIABLE, choose, instruction_set
from conceptseg.models.cpu.modules import FastAttention
from conceptseg.models.cpu.swap import fast_on_cpu
from conceptseg.models.cpu.training import training_kernels, trains_in_parts
from conceptseg.models.layers.attention import Attention


def processor(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(choice, "cpu_capabilities", lambda: dict.fromkeys(names, True))


def test_the_first_instruction_set_of_the_table_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "avx512_bf16", "amx_bf16", "avx2")
    assert instruction_set() == "amx_bf16" and choose().asking == "fused"
    processor(monkeypatch, "avx512_bf16", "avx2")
    assert instruction_set() == "avx512_bf16" and choose().asking == "blocks"
    processor(monkeypatch, "avx2")
    assert instruction_set() is None and choose().asking == "blocks"


def test_the_environment_and_then_the_argument_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "amx_bf16")
    monkeypatch.setenv(VARIABLE, "blocks")
    assert choose().asking == "blocks"
    assert choose("fused").asking == "fused"
    module = Attention(8, 2)
    fast_on_cpu(module)
    assert isinstance(module, FastAttention) and module.asking == "blocks"
    fast_on_cpu(module, "fused")
    assert module.asking == "fused"


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch)
    monkeypatch.setenv(VARIABLE, "flash")
    with pytest.raises(OptionError, match="CONCEPTSEG_CPU_ATTENTION is 'flash'; choose blocks or fused"):
        choose()


@pytest.mark.parametrize(
    ("capability", "side", "bfloat16", "expected"),
    [
        ("amx_bf16", 320, True, True),
        ("amx_bf16", 320, False, False),  # torch's fused kernel is faster there
        ("avx512_bf16", 320, False, True),
        ("avx512_bf16", 336, True, False),  # would keep too much
    ],
)
def test_a_step_on_small_images_keeps_attention_weights_where_that_is_faster(
    capability: str, side: int, bfloat16: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, capability)
    fused = torch.backends.cuda.flash_sdp_enabled
    before = fused()
    with training_kernels(torch.zeros(1, 3, side, side), bfloat16):
        assert trains_in_parts() is expected and fused() is not expected
    assert not trains_in_parts() and fused() == before


def test_on_another_device_nothing_changes() -> None:
    with training_kernels(torch.zeros(1, 3, 64, 64, device="meta"), bfloat16=True):
        assert not trains_in_parts()


def test_rows_come_from_the_table_the_environment_or_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROWS_VARIABLE, raising=False)
    processor(monkeypatch, "avx512_bf16")
    assert choose().rows == 0
    processor(monkeypatch, "amx_bf16")
    assert choose().rows > 0
    monkeypatch.setenv(ROWS_VARIABLE, "0")
    assert choose().rows == 0 and choose(rows=576).rows == 576
    monkeypatch.setenv(ROWS_VARIABLE, "many")
    with pytest.raises(OptionError, match="CONCEPTSEG_CPU_ROWS is 'many'; give a number of tokens"):
        choose()

import pytest
import torch

from conceptseg.device import choose_device, choose_dtype, has_bfloat16_instructions
from conceptseg.errors import OptionError


def test_auto_takes_the_best_device_there_is():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == choose_device().type == expected


def test_unknown_devices_list_the_choices():
    for device in ("gpu", "", "tpu:0", 3.5, None, 10**400):
        with pytest.raises(OptionError, match="choose auto, cpu, cuda"):
            choose_device(device)
    with pytest.raises(OptionError, match="not supported; choose auto"):
        choose_device("meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_clear_error():
    for device in ("cuda", "cuda:1", torch.device("cuda")):
        with pytest.raises(OptionError, match="torch sees no CUDA GPU; choose auto or cpu"):
            choose_device(device)


def test_dtypes_are_named_or_chosen_by_the_device():
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu) == choose_dtype("float32", cpu) == torch.float32
    assert choose_dtype("auto", cpu, parameters=8_000_000) == torch.float32
    assert choose_dtype("bfloat16", cpu) == choose_dtype(torch.bfloat16, cpu) == torch.bfloat16
    for dtype in ("int8", "half", torch.float64, None, 16):
        with pytest.raises(OptionError, match="unknown dtype .*; choose auto, float32, bfloat16, float16"):
            choose_dtype(dtype, cpu)


@pytest.mark.parametrize("native", [True, False])
def test_a_large_model_runs_in_bfloat16_where_the_processor_has_it(monkeypatch, native):
    monkeypatch.setattr("conceptseg.device.has_bfloat16_instructions", lambda: native)
    chosen = choose_dtype("auto", torch.device("cpu"), parameters=840_000_000)
    assert chosen == (torch.bfloat16 if native else torch.float32)
    assert isinstance(has_bfloat16_instructions(), bool)

"""The commands of the full-size benchmark, at a tiny size."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import fresh_process, official_size
from benchmarks.official_size_report import report

pytest.importorskip("transformers")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MEMORY = {"peak_mib": 700.0, "anonymous_mib": 400.0, "file_mib": 300.0}
LOADED = {
    "seconds": 1.5,
    "processor_seconds": 1.25,
    "seconds_with_every_weight_read": 2.5,
    "weights_mib": 1000.0,
    "imported": MEMORY,
    "loaded": {**MEMORY, "peak_mib": 750.0},
    "every_weight_read": {**MEMORY, "peak_mib": 1800.0},
}
RESULTS = {
    "size": "full",
    "machine": {
        "processor": "x86_64",
        "cores": 2,
        "threads": 2,
        "memory_gib": 24,
        "python": "3.11",
        **{package: "1.0" for package in ("torch", "transformers", "safetensors", "conceptseg")},
    },
    "write": {"parameters": 840_376_374, "gib": 3.131},
}


def test_the_vocabulary_has_the_size_and_layout_of_clips():
    from transformers import CLIPTokenizer

    from benchmarks.random_sam3 import made_up_vocabulary

    vocabulary, merges = made_up_vocabulary()
    assert len(vocabulary) == 49408 and sorted(vocabulary.values()) == list(range(49408))
    assert (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]) == (49406, 49407)
    tokens = CLIPTokenizer(vocab=vocabulary, merges=merges).tokenize("silver coin", add_special_tokens=True)
    assert tokens == ["<|startoftext|>", "s", "il", "ver</w>", "co", "in</w>", "<|endoftext|>"]


def test_difference_is_relative_to_the_largest_value():
    theirs = torch.tensor([[1.0, -4.0], [2.0, 1.0]])
    apart = official_size.difference(theirs, theirs + torch.tensor([[0.0, 0.0], [0.5, -0.25]]))
    assert (apart["absolute"], apart["relative"], apart["largest"]) == (0.5, 0.125, 4.0)
    with pytest.raises(AssertionError):
        official_size.difference(theirs, theirs[0])


def test_medians_reach_into_nested_measurements():
    runs = [{"seconds": s, "memory": {"peak": 10 * s}} for s in (3, 1, 8)]
    assert official_size.medians(runs) == {"seconds": 3, "memory": {"peak": 30}}


def test_the_report_holds_what_was_measured_and_nothing_else():
    text = report(RESULTS)
    assert "840,376,374 values, 3.13 GiB" in text
    assert "Loading" not in text and "transformers\n" not in text
    text = report({**RESULTS, "load": {"repeats": 5, "ways": {"transformers": LOADED}}})
    # 1800 MiB at the peak, of which 700 were there before: 1.1 times the weights.
    assert "| transformers | 1.50 | 1.25 | 700 | 750 | 0.05 | 2.50 | 1800 | 1.10 |" in text
    row = {"absolute": 1e-5, "relative": 2e-5, "largest": 4.0, "standard_deviation": 0.5}
    compared = {"cases": {"text": {"boxes": row}}, "worst_relative": 2e-5, "within_limit": True}
    layouts = {"hf": compared, "own": compared}
    text = report({**RESULTS, "parity": {"allowed_relative": 1e-3, "layouts": layouts}})
    assert "| boxes | 2.0e-05 | 4 | 0.5 |" in text and "2.0e-05 from `own`" in text
    answer = {"decoder": 0.5, "drawing": 0.25}
    stages = {
        "starting": {"load": 2.0},
        "first_answer": answer,
        "second_answer": answer,
        "found": 3,
        "memory": MEMORY,
    }
    command = {"seconds": 90.0, "peak_mib": 4000.0}
    text = report({**RESULTS, "segment": {"command": command, "stages": stages}})
    assert "| load | 2.00 |  |" in text and "| decoder | 0.50 | 0.50 |" in text and "4000 MiB" in text


@on_linux
def test_memory_of_this_process_is_seen_to_grow():
    before = fresh_process.memory()
    held = torch.ones(16 * 2**20)  # 64 MiB
    assert fresh_process.memory()["anonymous_mib"] - before["anonymous_mib"] > 60
    assert fresh_process.memory()["peak_mib"] >= held.numel() * 4 / 2**20


def test_calls_of_a_watched_module_add_up():
    clock = fresh_process.StageClock()
    layer = torch.nn.Linear(2, 2)
    clock.watch("layer", layer)
    layer(torch.zeros(1, 2))
    once = clock.seconds["layer"]
    layer(torch.zeros(1, 2))
    assert clock.seconds["layer"] > once > 0


@pytest.mark.slow
def test_every_raw_output_of_a_written_folder_equals_that_of_transformers(tmp_path: Path):
    from benchmarks.random_sam3 import write_random_sam3

    assert write_random_sam3(tmp_path / "hf", "tiny") > 10**6
    theirs = official_size.run_transformers(tmp_path / "hf")
    compared = official_size.compare(theirs, official_size.run_ours(tmp_path / "hf"))
    assert set(compared) == {"text", "text and boxes", "boxes only"}
    for outputs in compared.values():
        assert {"level 0", "class logits", "boxes", "presence logits", "mask logits"} < set(outputs)
        for name, row in outputs.items():
            assert row["relative"] < official_size.ALLOWED, name
            assert row["largest"] > 0 and (row["standard_deviation"] > 0 or name == "presence logits"), name

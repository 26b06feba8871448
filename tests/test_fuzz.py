"""A short run of what `python scripts/fuzz.py` does at length."""

from __future__ import annotations

import pytest

from scripts.fuzz import run


@pytest.mark.parametrize("seed", [0, 1])
def test_calls_drawn_at_random_are_answered_or_refused_in_one_line(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    report = run(range(150), seed)
    assert report.failures == []
    assert report.answered > 10

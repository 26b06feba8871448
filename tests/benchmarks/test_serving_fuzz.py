"""A short run of what `python benchmarks/serving_fuzz.py` does at length."""

from __future__ import annotations

import asyncio

from benchmarks.serving_fuzz import fuzz
from conceptseg.segmenter import Segmenter


def test_whatever_is_sent_is_answered_or_refused(tiny_segmenter: Segmenter) -> None:
    report = asyncio.run(fuzz(tiny_segmenter, 400, seed=1, limit=600))
    assert report.failures == []
    assert len(report.answers) == 12  # kinds
    assert report.count("odd prompts", 2) > 0 and report.count("damaged images", 4) > 0

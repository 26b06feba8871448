"""The pages of the service and of the review in a real browser, in a process of their own.

In a process that had run thousands of tests before, closing the second browser ended in a segmentation fault:
see `pytest_runtest_teardown` in `tests/conftest.py`.
"""

from __future__ import annotations

import pytest

from tests.conftest import find_chromium
from tests.own_process import ROOT, passed_in_own_process

CASES = ("serving", "review")


@pytest.mark.slow
@pytest.mark.parametrize("page", CASES)
def test_a_page_does_what_people_do_with_it(page: str) -> None:
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if find_chromium() is None:
        pytest.skip("there is no Chromium on this machine")
    assert passed_in_own_process(ROOT / "tests" / page / "page_cases.py")

"""Ctrl-C, SIGTERM and the clock wait for the step to end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from conceptseg.train.stop import stop_requests

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_work_goes_on(number: signal.Signals) -> None:
    with stop_requests() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


def test_a_second_ctrl_c_stops_at_once_and_says_where_the_run_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt, match="last checkpoint with --resume"), stop_requests():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_does_not_cut_the_step_short() -> None:
    """Launchers often send one to the group and one to each process."""
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested


def test_a_stop_is_requested_when_the_time_is_over_and_not_before() -> None:
    with stop_requests(minutes=60) as stop:
        assert not stop.requested
        stop.check()
    with stop_requests(minutes=0) as stop, pytest.raises(KeyboardInterrupt):
        stop.check()


def test_a_deadline_that_has_passed_is_not_a_first_ctrl_c() -> None:
    with stop_requests(minutes=0) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signalled


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with stop_requests() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT) == before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]

"""Ctrl-C: raised at once, or at the end of what must not be left half done."""

from __future__ import annotations

import os
import signal

import pytest

from pageferry.interrupts import Interrupted, Interrupts


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_with_the_exit_code_that_goes_with_it(signum: int, code: int) -> None:
    with Interrupts(), pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), signum)
    assert caught.value.exit_code == code


def interrupt_held_back(times: int, done: list[str]) -> None:
    with Interrupts() as interrupts, interrupts.held_back():
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        done.append("finished")


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted):
        interrupt_held_back(1, done)
    assert done == ["finished"]


def test_a_second_signal_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted):
        interrupt_held_back(2, done)
    assert done == []


def test_a_job_in_the_background_does_not_hear_of_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(), pytest.raises(Interrupted) as caught:  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught.value.exit_code == 143


def test_the_handlers_from_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before

"""Signals become requests."""

import os
import signal

import pytest

from layerforge.cli.signals import CONTINUE, SNAPSHOT, STOP, Signals


@pytest.mark.parametrize(
    "number, effects, expected",
    [
        (signal.SIGINT, {}, STOP),
        (signal.SIGINT, {"sigint": SNAPSHOT}, SNAPSHOT),
        (signal.SIGINT, {"sigint": CONTINUE}, CONTINUE),
        (signal.SIGHUP, {}, SNAPSHOT),
        (signal.SIGHUP, {"sighup": STOP}, STOP),
        (signal.SIGTERM, {}, STOP),
    ],
)
def test_effects(number, effects, expected):
    with Signals(**effects) as requested:
        assert requested() == CONTINUE
        os.kill(os.getpid(), number)
        assert requested() == expected
        assert requested() == CONTINUE, "a request is met once"
        assert requested.stopped_by == (number if expected == STOP else None)


def test_a_stop_is_not_taken_back_by_a_snapshot():
    with Signals() as requested:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert requested() == STOP


def test_the_second_interrupt_is_immediate():
    with Signals() as requested:
        os.kill(os.getpid(), signal.SIGINT)
        assert requested() == STOP
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_many_interrupts_may_ask_for_snapshots():
    with Signals(sigint=SNAPSHOT) as requested:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            assert requested() == SNAPSHOT


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)] == before


def test_a_log_that_nobody_reads_stops_the_run():
    with Signals(log_is_gone=lambda: True) as requested:
        assert requested() == STOP
        assert requested.stopped_by == signal.SIGPIPE
        assert requested() == CONTINUE

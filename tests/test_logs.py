"""Log lines, as the parsers of Caffe's logs read them (tools/extra/parse_log.py) and as a person does."""

import io
import logging
import re

import pytest

from layerforge import logs

log = logging.getLogger("layerforge.test")


def written(calm: bool, write) -> list[str]:
    stream = io.StringIO()
    with logs.to(stream, calm):
        write()
    return stream.getvalue().splitlines()


def test_glog():
    (line,) = written(False, lambda: log.info("Iteration %d, lr = %g", 7, 0.01))
    assert re.fullmatch(r"I\d{4} \d{2}:\d{2}:\d{2}\.\d{6} [ \d]{5,} test_logs\.py:\d+\] Iteration 7, lr = 0\.01", line)


def test_every_line_of_a_message_has_the_prefix():
    lines = written(False, lambda: log.warning("first\nsecond"))
    assert [line.partition("] ")[2] for line in lines] == ["first", "second"]
    assert [line[0] for line in lines] == ["W", "W"]


def test_calm():
    first, second = written(True, lambda: log.info("Loaded 3 layers\nNot in the file: fc8"))
    assert re.fullmatch(r"\d{2}:\d{2}:\d{2}  Loaded 3 layers", first)
    assert second == "          Not in the file: fc8"


def test_time_as_parse_log_reads_it():
    """Its extract_datetime_from_line: month and day after the letter, then the time with its microseconds."""
    (line,) = written(False, lambda: log.info("Solving LeNet"))
    date, clock = line.split()[:2]
    assert 1 <= int(date[1:3]) <= 12
    assert 1 <= int(date[3:]) <= 31
    whole, _, micro = clock.rpartition(".")
    assert all(0 <= int(part) < 60 for part in whole.split(":"))
    assert 0 <= int(micro) < 1_000_000


@pytest.mark.parametrize("level, expected", [("0", 2), ("1", 1), ("2", 0), ("9", 0), ("x", 2)])
def test_least_level(monkeypatch, level, expected):
    monkeypatch.setenv("GLOG_minloglevel", level)
    lines = written(False, lambda: (log.info("info"), log.warning("warning")))
    assert len(lines) == expected


def test_a_reader_that_is_gone_is_noticed_and_harms_nothing():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with logs.to(Gone(), False) as handler:
        assert not handler.broken
        log.info("said to nobody")
        assert handler.broken


def test_lines_are_written_with_the_live_line_hidden():
    import contextlib

    order = []

    @contextlib.contextmanager
    def hidden():
        order.append("hide")
        yield
        order.append("show")

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            order.append("write")
            return super().write(text)

    with logs.to(Stream(), True) as handler:
        handler.hide_live_line = hidden
        log.info("a line")
    assert order == ["hide", "write", "show"]


def test_nothing_is_said_unless_asked(capfd):
    log.info("unheard")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tty, term, expected", [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)])
def test_on_terminal(monkeypatch, tty, term, expected):
    monkeypatch.setenv("TERM", term)
    stream = io.StringIO()
    stream.isatty = lambda: tty
    assert logs.on_terminal(stream) is expected

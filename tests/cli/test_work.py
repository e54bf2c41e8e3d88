import io
import signal
import sys

import cv2
import pytest

from layerforge.cli import _work


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(_work.progress(iter("abc"), 3, "images")) == ["a", "b", "c"]
    text = sys.stderr.getvalue()
    assert "0%|" in text
    assert "| 0/3 [00:00<?, ? images/s]" in text
    assert text.endswith("\r")  # it is gone in the end


@pytest.mark.parametrize("stream, term", [(io.StringIO, "xterm"), (Terminal, "dumb")])
def test_nothing_elsewhere(monkeypatch, stream, term):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(_work.progress(iter("abc"), 3, "images")) == ["a", "b", "c"]
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_tidy_end(number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, _work.tidy_end():
        signal.raise_signal(number)
    assert end.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_opencv_starts_no_threads():
    before = cv2.getNumThreads()
    with _work.single_threaded_opencv():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (38_149_999, "38.1 MB"),
        (5e9, "5.0 GB"),
        (7e12, "7000.0 GB"),
    ],
)
def test_amounts(size, text):
    assert _work.amount(size) == text


def test_the_size_of_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(10**9)
    assert 100_000 <= _work.folder_size(tmp_path) < 10**6


def test_rates():
    assert _work.rate(12345, 10) == "1,234"
    assert _work.rate(0, 0) == "0"

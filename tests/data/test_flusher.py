import os
import threading

import pytest

from layerforge.data.flusher import Flusher


def test_files_are_written_in_order_by_a_thread(tmp_path, monkeypatch):
    names = [tmp_path / name for name in "abc"]
    for path in names:
        path.write_text(path.name)
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append((os.read(handle, 9), threading.current_thread().name)))
    flusher = Flusher()
    for path in names:
        flusher.flush(path)
    flusher.finish()
    assert seen == [(name, "layerforge-flusher") for name in (b"a", b"b", b"c")]
    flusher.finish()


def test_nothing_to_do():
    before = threading.active_count()
    flusher = Flusher()
    assert threading.active_count() == before + 1  # there from the beginning, so that it can always be joined
    flusher.finish()
    flusher.close()
    assert threading.active_count() == before


def test_an_error_is_told_in_the_end(tmp_path):
    before = threading.active_count()
    flusher = Flusher()
    flusher.flush(tmp_path / "none")
    flusher.flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flusher.finish()
    assert threading.active_count() == before

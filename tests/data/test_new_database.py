import errno
import os
import stat
import time

import lmdb
import pytest

from layerforge.data import open_source
from layerforge.data.lmdb_writer import LmdbWriter, write_lmdb
from layerforge.data.new_database import WRITERS, new_database
from layerforge.datum import Datum, datum_bytes
from layerforge.errors import DataError


def numbered(i, side=4):
    return datum_bytes(Datum(1, side, side, bytes([i % 256]) * (side * side), label=i))


@pytest.mark.parametrize("backend, kind", [("lmdb", "LmdbSource"), ("leveldb", "LevelDbSource")])
def test_a_new_database(tmp_path, backend, kind):
    with new_database(tmp_path / "db", backend) as put:
        for i in range(20):
            put(b"%05d" % i, numbered(i))
        assert not (tmp_path / "db").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o777 & ~umask()
    source = open_source(tmp_path / "db")
    assert type(source).__name__ == kind
    assert [source.read(i).label for i in range(len(source))] == list(range(20))
    source.close()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("backend", WRITERS)
@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit, ValueError, BrokenPipeError])
def test_nothing_is_left_of_a_database_that_was_not_finished(tmp_path, backend, reason):
    def begin():
        with new_database(tmp_path / "db", backend) as put:
            for i in range(2000):
                put(b"%05d" % i, numbered(i))
            raise reason

    with pytest.raises(reason):
        begin()
    assert list(tmp_path.iterdir()) == []


def test_the_map_grows(tmp_path):
    writer = LmdbWriter(tmp_path / "db", first_map=1 << 16)
    for i in range(300):
        writer.put(b"%05d" % i, numbered(i, side=100))
    writer.finish()
    source = open_source(tmp_path / "db")
    assert [source.read(i).label for i in range(len(source))] == list(range(300))
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == ["data.mdb", "lock.mdb"]  # a reader's


def test_keys_in_any_order(tmp_path):
    write_lmdb(tmp_path / "db", [(b"b", numbered(1)), (b"c", numbered(2)), (b"a", numbered(0)), (b"c", numbered(3))])
    source = open_source(tmp_path / "db")
    assert [(source.key(i), source.read(i).label) for i in range(3)] == [(b"a", 0), (b"b", 1), (b"c", 3)]


# What is wrong.

FULL = "the disk is full. Nothing is left of what was begun"


def write(path, meanwhile=lambda: None):
    with new_database(path) as put:
        put(b"a", numbered(0))
        meanwhile()


def refused(path, *arguments):
    with pytest.raises(DataError) as error:
        write(path, *arguments)
    return str(error.value)


def test_a_name_that_is_taken(tmp_path):
    (tmp_path / "my db").mkdir()
    text = (
        f'"{tmp_path}/my db" exists already and is not overwritten. Take another name, or remove it: '
        f"rm -r '{tmp_path}/my db'"
    )
    assert refused(tmp_path / "my db") == text
    quicker = (tmp_path / "db").mkdir
    assert refused(tmp_path / "db", quicker) == text.replace("my db", "db").replace("'", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "my db"]


def test_a_folder_that_is_missing(tmp_path):
    assert refused(tmp_path / "no" / "db") == (
        f'cannot write "{tmp_path}/no/db": there is no folder "{tmp_path}/no". Make it first'
    )


@pytest.mark.parametrize(
    "error, text",
    [
        (OSError(errno.ENOSPC, "?"), FULL),
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), FULL),
        (OSError(errno.EIO, "?"), "Input/output error"),
        (lmdb.PanicError("mdb_put: it is broken"), "mdb_put: it is broken"),
    ],
)
def test_writing_fails(tmp_path, monkeypatch, error, text):
    def fail(self, key, value):
        raise error

    monkeypatch.setattr(LmdbWriter, "put", fail)
    assert refused(tmp_path / "db") == f'cannot write "{tmp_path}/db": {text}'
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_records_are_quick(tmp_path):
    begin = time.perf_counter()
    for backend in WRITERS:
        with new_database(tmp_path / backend, backend) as put:
            for i in range(10000):
                put(b"%08d" % i, bytes(1000))
    assert time.perf_counter() - begin < 20

import shutil

import lmdb
import pytest

from layerforge.data import open_source
from layerforge.data.lmdb_source import LmdbSource
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.data.source import BadRecord
from layerforge.datum import Datum, datum_bytes, parse_datum
from layerforge.errors import DataError

COUNT = 300


def numbered(i):
    """Record i: one pixel of value i mod 256, label i."""
    return datum_bytes(Datum(1, 1, 1, bytes([i % 256]), label=i))


@pytest.fixture
def path(tmp_path):
    write_lmdb(tmp_path / "db", ((b"%05d" % i, numbered(i)) for i in range(COUNT)))
    return tmp_path / "db"


@pytest.mark.parametrize(
    "positions",
    [range(COUNT), range(COUNT - 1, -1, -1), [0, 299, 5, 4, 3, 150, 151, 10, 9, 12, 0, 299, 0], [200, 1, 70, 69]],
    ids=["forwards", "backwards", "jumping", "starting late"],
)
def test_records_by_position(path, positions):
    source = open_source(str(path))
    assert len(source) == COUNT
    for i in positions:
        assert source.key(i) == b"%05d" % i
        assert source.read(i).label == i
        assert bytes(source.borrow(i).data) == bytes([i % 256])
    source.close()


@pytest.mark.parametrize("positions", [range(250, 270), [299, 0, 1, 150, 149, 80], [7], []])
def test_several_records_as_they_are_stored(path, positions):
    source = open_source(path)
    assert [bytes(value) for value in source.values(positions)] == [numbered(i) for i in positions]
    for wrong in (-1, COUNT):
        with pytest.raises(DataError) as error:
            source.values([0, wrong])
        assert str(error.value) == f'source "{path}" has no record {wrong}: it has 300'
    source.close()
    with pytest.raises(DataError) as error:
        source.values([0])
    assert str(error.value) == f'source "{path}" is closed'


def test_a_record_outlives_its_source(path):
    source = open_source(path)
    datum = source.read(7)
    source.close()
    del source
    assert bytes(datum.data) == b"\x07"


def test_a_file_instead_of_a_folder(path):
    assert open_source(path / "data.mdb").read(3).label == 3


def test_one_database_open_twice(path):
    one, two = open_source(path), open_source(path)
    assert one.read(5).label == two.read(5).label == 5
    one.close()
    one.close()
    assert two.read(6).label == 6
    with pytest.raises(DataError) as error:
        one.read(6)
    assert str(error.value) == f'source "{path}" is closed'


def test_a_folder_where_nothing_can_be_locked(path, monkeypatch):
    really, tried = lmdb.open, []

    def locked_out(*arguments, lock=True, **options):
        tried.append(lock)
        if lock:
            raise lmdb.ReadonlyError("lock.mdb: Permission denied")
        return really(*arguments, lock=lock, **options)

    monkeypatch.setattr(lmdb, "open", locked_out)
    assert open_source(path).read(9).label == 9
    assert tried == [True, False]


def test_records_of_a_writer_are_seen_by_the_next_reader(path):
    before = open_source(path)
    before.close()
    del before
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"99999", numbered(300))
    assert len(open_source(path)) == COUNT + 1


# What is wrong with a source.


def test_no_such_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        open_source("train_lmdb")
    assert str(error.value) == (
        f'source "train_lmdb" does not exist in {tmp_path}. Name a folder that holds an LMDB, '
        'or write source: "sample://shapes?split=train" to try without one'
    )
    with pytest.raises(DataError) as error:
        open_source("/nowhere/train_lmdb")
    assert str(error.value) == (
        'source "/nowhere/train_lmdb" does not exist. Name a folder that holds an LMDB, '
        'or write source: "sample://shapes?split=train" to try without one'
    )


def test_no_name():
    with pytest.raises(DataError) as error:
        open_source("")
    assert str(error.value) == (
        'no source is named. Write source: "my_lmdb", or source: "sample://shapes?split=train" to try'
    )


def test_an_unknown_kind_of_source():
    with pytest.raises(DataError) as error:
        open_source("samples://shapes")
    assert str(error.value) == (
        'source "samples://shapes": there is no kind of source "samples://". Did you mean "sample"? '
        "Known: sample://, or a folder"
    )


def test_a_folder_without_a_database(tmp_path):
    with pytest.raises(DataError) as error:
        open_source(tmp_path)
    assert str(error.value) == (
        f'source "{tmp_path}" is a folder without a database: it holds neither data.mdb, as an LMDB does, '
        "nor CURRENT, as a LevelDB does"
    )


@pytest.mark.parametrize(
    "content, text",
    [
        (
            b"\x89HDF\r\n\x1a\n",
            "an HDF5 file. A layer of type HDF5Data reads such files, from a text file that lists them",
        ),
        (b"a.jpg 0\n", "a text file. A layer of type ImageData reads lists of images, HDF5Data lists of HDF5 files"),
    ],
)
def test_files_that_another_layer_reads(tmp_path, content, text):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "file")
    assert str(error.value) == f'source "{tmp_path}/file" is no database but {text}'


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"no database " * 1000])
def test_no_lmdb(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError) as error:
        open_source(tmp_path)
    assert str(error.value) == (f'source "{tmp_path}" is not an LMDB: {tmp_path / "data.mdb"} does not begin like one')


@pytest.mark.parametrize(
    "size, needed",
    [
        (100, 152),  # not even its first header is there
        (4096, 8192),  # the first of its two headers says that there is a second
        (5000, None),
        (20000, None),
    ],
)
def test_a_database_that_is_cut_short(path, size, needed):
    file = path / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[:size])
    with pytest.raises(DataError) as error:
        open_source(path)
    assert str(error.value) == (
        f'source "{path}" is cut short: {file} has {size} bytes and should have at least {needed or len(whole)}. '
        "Copy it again"
    )


def test_an_empty_database(tmp_path):
    write_lmdb(tmp_path / "db", [])
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "db")
    assert str(error.value) == f'source "{tmp_path / "db"}" is an LMDB without a single record'


def test_a_database_that_a_script_has_open(path):
    """In a notebook: the database was written, or looked into, and never closed."""
    mine = lmdb.open(str(path))
    source = open_source(path)
    with mine.begin() as transaction:
        assert len(source) == transaction.stat()["entries"]
        for i, (key, value) in enumerate(transaction.cursor()):
            assert source.key(i) == key
            assert source.read(i) == parse_datum(value)
    source.close()
    with pytest.raises(lmdb.Error, match="already open"):  # the library's guard stands as before
        lmdb.open(str(path))
    mine.close()


def test_a_database_that_the_library_refuses(path, monkeypatch):
    def refuse(*arguments, **options):
        raise lmdb.VersionMismatchError("Database environment version mismatch")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(DataError) as error:
        open_source(path)
    assert str(error.value) == (f'source "{path}" cannot be opened as an LMDB: Database environment version mismatch')


def test_no_such_record(path):
    source = open_source(path)
    with pytest.raises(DataError) as error:
        source.read(COUNT)
    assert str(error.value) == f'source "{path}" has no record 300: it has 300'


def test_a_record_that_is_no_datum(tmp_path):
    write_lmdb(tmp_path / "db", [(b"first", numbered(0)), (b"second", b"\x22\x05abc")])
    source = LmdbSource(str(tmp_path / "db"))
    with pytest.raises(BadRecord) as error:
        source.read(1)
    assert str(error.value) == (
        f'source "{tmp_path / "db"}": record 1 (key "second"): this is no Datum: damaged at byte 0 of 5: '
        "its data of 5 bytes goes 2 beyond the end."
    )


def test_a_name_with_a_tilde(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    shutil.copytree(path, path.parent / "copy")
    assert open_source("~/copy").read(1).label == 1

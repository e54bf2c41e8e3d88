import hashlib
import shutil
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from layerforge import _csrc
from layerforge.data import leveldb_format as form
from layerforge.data import leveldb_source, leveldb_writer, open_source
from layerforge.data.leveldb_source import LevelDbSource
from layerforge.data.leveldb_writer import LevelDbWriter
from layerforge.data.source import BadRecord
from layerforge.datum import Datum, datum_bytes, parse_datum
from layerforge.errors import DataError
from layerforge.protobytes import Damage, number_bytes

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def real(tmp_path):
    """What LevelDB 1.22 itself wrote, with snappy.

    200 small records and a large one in a compressed table, then every tenth gone and every tenth written again in a
    second table, then a log: three more small records, one of which goes again, and a large one.
    """
    return Path(shutil.copytree(GOLDEN / "leveldb", tmp_path / "real"))


def written(folder, records):
    folder.mkdir()
    writer = LevelDbWriter(folder)
    for key, value in records:
        writer.put(key, value)
    writer.finish()
    return folder


def numbered(i, side=1):
    return datum_bytes(Datum(1, side, side, bytes([i % 256]) * (side * side), label=i))


@pytest.fixture
def path(tmp_path):
    return written(tmp_path / "db", ((b"%05d" % i, numbered(i)) for i in range(300)))


def contents(source):
    """(key, label, side) of every record, once each, with its pixels checked."""
    found = []
    for position in range(len(source)):
        for datum in (source.read(position), source.borrow(position)):
            size = datum.height * datum.width
            pixels = bytes(range(256)) * 256 if size == 256 * 256 else bytes([datum.label % 256]) * size
            assert bytes(datum.data) == pixels
        found.append((source.key(position).decode(), datum.label, datum.width))
    return found


def test_what_leveldb_wrote(real):
    expected = [(f"{i:08}_small", 1000 + i if i % 10 == 5 else i, 8) for i in range(200) if i % 10]
    expected += [("00000150_large", 150, 96), ("00000300_small", 300, 8)]
    expected += [("00000302_large", 302, 256), ("00000302_small", 302, 8)]
    source = open_source(real, backend=1)  # whatever the prototxt says
    assert contents(source) == sorted(expected)
    stored = [parse_datum(value) for value in source.values(range(len(source)))]
    assert stored == [source.read(position) for position in range(len(source))]
    source.close()


def test_a_log_alone(real):
    """A database that was closed before its records were moved to a table."""
    manifest = b"".join(
        number_bytes(tag) + value
        for tag, value in ((form.COMPARATOR, form.counted_bytes(form.BYTEWISE)), (form.LOG_NUMBER, number_bytes(11)))
    )
    (real / "MANIFEST-000009").write_bytes(form.log_bytes(iter([manifest])))
    assert [name for name, _, _ in contents(open_source(real))] == [
        "00000300_small",
        "00000302_large",
        "00000302_small",
    ]


def test_a_log_that_ends_within_a_record(real):
    """A process was killed while it wrote: what was not written to its end does not count."""
    log = real / "000011.log"
    log.write_bytes(log.read_bytes()[:60000])
    keys = [source_key for source_key, _, _ in contents(open_source(real))]
    assert keys[-3:] == ["00000300_small", "00000301_small", "00000302_small"]


def test_reading_leaves_the_folder_alone(real):
    before = {path.name: path.read_bytes() for path in real.iterdir()}
    one, two = open_source(real), open_source(real)
    assert contents(one) == contents(two)
    assert {path.name: path.read_bytes() for path in real.iterdir()} == before


def test_threads(real, monkeypatch):
    monkeypatch.setattr(leveldb_source, "MAPPED", 1)
    monkeypatch.setattr(leveldb_source, "UNPACKED", 1)
    source = open_source(real)
    expected = contents(source)
    found = []
    threads = [threading.Thread(target=lambda: found.append(contents(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


@pytest.mark.parametrize("table", [1 << 26, 2000])
def test_written_and_read(tmp_path, monkeypatch, table):
    monkeypatch.setattr(leveldb_writer, "TABLE", table)
    sides = [1, 2, 200, 3] * 50
    path = written(tmp_path / "db", ((b"%05d" % i, numbered(i, side)) for i, side in enumerate(sides)))
    assert contents(open_source(path)) == [(f"{i:05}", i, side) for i, side in enumerate(sides)]
    assert (len(list(path.glob("*.ldb"))) > 20) == (table == 2000)


def test_the_bytes_that_leveldb_took(path):
    """LevelDB 1.22 opened these with paranoid_checks, gave all records back, and went on writing to them."""
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in path.iterdir()}
    assert found == {
        "000004.ldb": "271a678336a1159a",
        "MANIFEST-000005": "513af1c37e8e0ef4",
        "CURRENT": "9c283f6e81028b9e",
    }


def test_an_empty_one_of_ours(tmp_path):
    with pytest.raises(DataError) as error:
        open_source(written(tmp_path / "db", []))
    assert str(error.value) == f'source "{tmp_path / "db"}" is a LevelDB without a single record'


@pytest.mark.parametrize("data, crc", [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)])
def test_the_checksum(data, crc):
    """RFC 3720, B.4."""
    turned = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    assert form.checksum(data) == form.checksum(data[:5], data[5:]) == (turned + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
@pytest.mark.parametrize("before", [0, 1, 2**32 - 1])
def test_the_processor_s_checksum_is_the_table_s(count, before):
    data = np.random.default_rng(count).bytes(count)
    assert _csrc.crc32c(data, before) == _csrc.crc32c(data, before, instruction=False)


@pytest.mark.parametrize("sizes", [[0], [10, 32768 - 7 - 10 - 7, 3], [32768 - 7 - 6, 5], [100000, 0, 70000], []])
def test_logs(sizes):
    records = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    data = form.log_bytes(iter(records))
    assert list(form.log_records(data)) == records
    assert list(form.log_records(data + bytes(100))) == records  # space that was set aside


# What is wrong with it.


def refused(path):
    with pytest.raises(DataError) as error:
        open_source(path)
    return str(error.value)


def test_the_extra_is_missing(real, monkeypatch):
    monkeypatch.setitem(sys.modules, "cramjam", None)
    assert refused(real) == (
        f"source \"{real}\": this LevelDB is compressed. To read it, type: pip install 'layerforge[leveldb]' "
        "(which installs cramjam), or make an LMDB of the images with convert-imageset"
    )


def test_without_the_extra_what_is_not_compressed_can_be_read(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cramjam", None)
    assert len(contents(open_source(path))) == 300


@pytest.mark.parametrize("content", [b"", b"MANIFEST\n", b"MANIFEST-../x\n", b"\xff\xfe"])
def test_a_strange_current(path, content):
    (path / "CURRENT").write_bytes(content)
    assert refused(path) == f'source "{path}" is not a LevelDB: its file CURRENT names no MANIFEST'


def test_files_that_are_missing(path):
    (path / "000004.ldb").unlink()
    assert refused(path) == f'source "{path}" lacks 000004.ldb, which its MANIFEST-000005 lists. Copy it again'
    (path / "MANIFEST-000005").unlink()
    assert refused(path) == f'source "{path}" lacks its MANIFEST-000005. Copy it again'


def test_a_table_that_is_cut_short(path):
    table = path / "000004.ldb"
    size = table.stat().st_size
    table.write_bytes(table.read_bytes()[:1000])
    assert refused(path) == (
        f'source "{path}" is cut short: {table} has 1000 bytes and should have {size}. Copy it again'
    )


def test_a_table_of_another_kind(path):
    table = path / "000004.ldb"
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    assert refused(path) == f'source "{path}" is damaged: {table}: it does not end like a LevelDB table'


def test_a_rocksdb(path):
    (path / "IDENTITY").write_text("a name")
    assert refused(path) == f'source "{path}" is a RocksDB, which cannot be read here. Make an LMDB of the images'


def test_another_order_of_keys(path):
    manifest = form.log_bytes(iter([number_bytes(form.COMPARATOR) + form.counted_bytes(b"idb_cmp1")]))
    (path / "MANIFEST-000005").write_bytes(manifest)
    assert refused(path) == (
        f'source "{path}" orders its keys by idb_cmp1; a LevelDB of Caffe does so by leveldb.BytewiseComparator'
    )


@pytest.mark.parametrize(
    "edit, text",
    [
        (bytes([8]), "it has an entry of the unknown kind 8"),
        (bytes([1, 200]), "a number does not end"),
        (bytes([1, 20, 65]), "a text is cut off"),
    ],
)
def test_a_damaged_manifest(path, edit, text):
    manifest = path / "MANIFEST-000005"
    manifest.write_bytes(form.log_bytes(iter([edit])))
    assert refused(path) == f'source "{path}" is damaged: {manifest}: {text}'


def test_a_wrong_checksum(path):
    manifest = path / "MANIFEST-000005"
    data = bytearray(manifest.read_bytes())
    data[20] ^= 1
    manifest.write_bytes(data)
    assert refused(path) == f'source "{path}" is damaged: {manifest}: the checksum at byte 0 is wrong'


def test_a_damaged_index(path):
    table = path / "000004.ldb"
    data = bytearray(table.read_bytes())
    data[-80] ^= 1
    table.write_bytes(data)
    assert refused(path).startswith(f'source "{path}" is damaged: {table}: the checksum of the block at byte ')


@pytest.mark.parametrize(
    "batch, text",
    [
        (b"short", "a batch is cut off"),
        (struct.pack("<QI", 1, 1), "a batch has fewer changes than it says"),
        (struct.pack("<QI", 1, 1) + b"\7\1k", "a change is of the unknown kind 7"),
        (struct.pack("<QI", 1, 1) + b"\1\1k\5abc", "a value is cut off"),
    ],
)
def test_a_damaged_log(path, batch, text):
    log = path / "000099.log"
    log.write_bytes(form.log_bytes(iter([batch])))
    assert refused(path) == f'source "{path}" is damaged: {log}: {text}'


@pytest.mark.parametrize(
    "block, text",
    [
        (b"", "a block is cut off"),
        (b"\xff\xff\xff\xff", "a block is cut off"),
        (b"\0\1\5kab" + bytes(4), "a record goes beyond its block"),
        (b"\3\1\0k" + bytes(4), "a record goes beyond its block"),
    ],
)
def test_damaged_blocks(block, text):
    with pytest.raises(Damage) as error:
        list(form.block_records(block))
    assert str(error.value) == text


@pytest.mark.parametrize(
    "trailer, text",
    [
        (b"\5", "a block is compressed in the unknown way 5"),
        (b"\1", "the block at byte 0 cannot be decompressed"),
        (b"", "a block lies behind its end"),
    ],
)
def test_blocks_that_cannot_be_unpacked(trailer, text):
    with pytest.raises(Damage) as error:
        form.unpacked(b"\xff" * 20 + trailer + bytes(4 if trailer else 0), 0, 20)
    assert str(error.value) == text


def test_a_compressed_block_that_is_damaged(real):
    source = LevelDbSource(str(real))
    position = next(i for i in range(len(source)) if source.key(i) == b"00000150_large")
    _, _, _, block, _ = source._records.where(position)
    with open(real / "000005.ldb", "r+b") as file:
        file.seek(block)
        file.write(b"\xff\xff\xff\xff\xff")
    with pytest.raises(BadRecord) as error:
        source.read(position)
    assert str(error.value) == (
        f'source "{real}": record {position} (key "00000150_large"): 000005.ldb: '
        f"the block at byte {block} cannot be decompressed"
    )


def test_a_record_that_is_no_datum(tmp_path):
    path = written(tmp_path / "db", [(b"first", numbered(0)), (b"second", b"\x22\x05abc")])
    with pytest.raises(BadRecord) as error:
        open_source(path).read(1)
    assert str(error.value) == (
        f'source "{path}": record 1 (key "second"): this is no Datum: damaged at byte 0 of 5: '
        "its data of 5 bytes goes 2 beyond the end."
    )


def test_no_such_record(path):
    source = open_source(path)
    with pytest.raises(DataError) as error:
        source.read(300)
    assert str(error.value) == f'source "{path}" has no record 300: it has 300'
    source.close()
    with pytest.raises(DataError) as error:
        source.read(0)
    assert str(error.value) == f'source "{path}" is closed'

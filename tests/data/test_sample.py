import hashlib
import io
import os
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from layerforge.data import open_source, sample
from layerforge.data.decode import decode
from layerforge.datum import parse_datum
from layerforge.errors import DataError

SHAPES = "sample://shapes?split=train&count=30&size=32"
DIGITS = "sample://digits?split=test&count=30"


def records(uri, cache):
    source = open_source(uri, cache=cache)
    source.open()
    try:
        return [(source.key(i), source.read(i)) for i in range(len(source))]
    finally:
        source.close()


@pytest.mark.parametrize("uri", [SHAPES, DIGITS])
def test_the_same_query_gives_the_same_bytes(uri, tmp_path):
    files = [(sample.database(uri, tmp_path / name) / "data.mdb").read_bytes() for name in ("one", "two")]
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()


@pytest.mark.parametrize("uri", [SHAPES, DIGITS])
def test_seeds_and_splits_differ(uri, tmp_path):
    def images(uri):
        return {bytes(datum.data) for _, datum in records(uri, tmp_path)}

    other_split = uri.replace("train", "test") if "train" in uri else uri.replace("test", "train")
    first, second, third = images(uri), images(f"{uri}&seed=1"), images(other_split)
    assert len(first) == len(second) == len(third) == 30
    assert first.isdisjoint(second)
    assert first.isdisjoint(third)


def test_more_records_begin_with_the_same_ones(tmp_path):
    few, many = records(SHAPES, tmp_path), records(SHAPES.replace("30", "40"), tmp_path)
    assert many[:30] == few


def test_shapes(tmp_path):
    found = records(SHAPES, tmp_path)
    assert [key for key, _ in found] == [b"%08d_%s" % (i, key.split(b"_")[1]) for i, (key, _) in enumerate(found)]
    for key, datum in found:
        assert key.endswith(sample.sample_shapes.NAMES[datum.label].encode())
        assert datum.encoded
        assert bytes(datum.data[:3]) == b"\xff\xd8\xff"  # JPEG
        assert decode(datum).shape == (3, 32, 32)
        assert decode(datum).pixels.std() > 5


def test_digits(tmp_path):
    for key, datum in records(DIGITS, tmp_path):
        assert key.endswith(b"_%d" % datum.label)
        assert not datum.encoded
        assert (datum.channels, datum.height, datum.width) == (1, 28, 28)
        assert decode(datum).pixels.std() > 20


@pytest.mark.parametrize("name", sample.SETS)
@pytest.mark.parametrize("split", sample.SPLITS)
def test_classes_are_balanced_and_mixed(name, split):
    asked = sample.parse(f"sample://{name}?split={split}")
    labels = [asked.label(i) for i in range(500)]
    assert set(Counter(labels).values()) == {50}
    assert len({tuple(labels[i : i + 10]) for i in range(0, 500, 10)}) == 50  # the order differs from run to run


def test_the_whole_sets():
    asked = {
        (name, split): sample.parse(f"sample://{name}?split={split}") for name in sample.SETS for split in sample.SPLITS
    }
    sizes = {key: (one.count, one.size) for key, one in asked.items()}
    assert sizes == {
        ("shapes", "train"): (4000, 256),
        ("shapes", "test"): (1000, 256),
        ("digits", "train"): (10000, 28),
        ("digits", "test"): (1000, 28),
    }


@pytest.mark.parametrize("label", range(10))
def test_shapes_stay_in_the_picture(label):
    """The corners of the picture show the background: no class is told by what is cut off."""
    for index in range(3):
        rng = np.random.default_rng([label, index])
        image = sample.sample_shapes.draw(rng, label, 64)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert 20 < image.mean() < 235


def test_a_record_is_the_same_before_and_after_the_database_is_drawn(tmp_path):
    source = open_source(SHAPES, cache=tmp_path)
    before = [source.read(i) for i in (0, 17)]
    assert source.values([0, 17]) is None
    assert not list(tmp_path.iterdir())  # single records are drawn without the rest
    source.open()
    assert [source.read(i) for i in (0, 17)] == before
    assert source.borrow(17).label == before[1].label
    assert [parse_datum(value) for value in source.values([0, 17])] == before
    source.close()


def test_drawing_leaves_the_threads_of_opencv_alone(tmp_path):
    before = cv2.getNumThreads()
    sample.database(SHAPES, tmp_path)
    assert cv2.getNumThreads() == before


# The cache.


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERFORGE_CACHE", str(tmp_path / "named"))
    assert sample.cache_folder() == tmp_path / "named"
    assert sample.cache_folder(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("LAYERFORGE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sample.cache_folder() == tmp_path / ".cache" / "layerforge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert sample.cache_folder() == tmp_path / "xdg" / "layerforge"


def test_drawn_once_with_one_line(tmp_path, capsys):
    folder = sample.database(SHAPES, tmp_path)
    assert capsys.readouterr().err == f"Drawing 30 images of {SHAPES}, once, into {folder}\n"
    assert sample.database(SHAPES, tmp_path) == folder
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    folder = sample.database(SHAPES, tmp_path)
    text = sys.stderr.getvalue()
    assert f"Drawing {SHAPES}:   0%" in text
    assert text.endswith(f"Drew 30 images of {SHAPES} into {folder}\n")


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(rng, label, size):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sample.sample_shapes, "draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sample.database(SHAPES, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert len(records(SHAPES, tmp_path)) == 30


def test_what_a_killed_process_left_is_drawn_again(tmp_path):
    part = tmp_path / f"{sample.parse(SHAPES).folder}.part"
    part.mkdir()
    (part / "data.mdb").write_bytes(b"half")
    assert len(records(SHAPES, tmp_path)) == 30
    assert not part.exists()


def test_two_processes_at_once(tmp_path):
    code = f"from layerforge.data.sample import database; database({SHAPES!r})"
    environment = {**os.environ, "LAYERFORGE_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len("".join(said).splitlines()) == 1  # one drew, the other waited
    assert len(records(SHAPES, tmp_path)) == 30


# What is wrong with a query.


@pytest.mark.parametrize(
    "uri, text",
    [
        (
            "sample://shape?split=train",
            'source "sample://shape?split=train": there is no sample data "shape". Did you mean "shapes"? '
            "Known: shapes, digits",
        ),
        (
            "sample://shapes",
            'source "sample://shapes": it names no split. Write sample://shapes?split=train or sample://shapes?split=test',
        ),
        (
            "sample://digits?split=val",
            'source "sample://digits?split=val": split is "val". '
            "Write sample://digits?split=train or sample://digits?split=test",
        ),
        (
            "sample://shapes?split=train&siz=64",
            'source "sample://shapes?split=train&siz=64": unknown word "siz". Did you mean "size"? '
            "Known: split, count, size, seed",
        ),
        (
            "sample://shapes?split=train&size=15",
            'source "sample://shapes?split=train&size=15": size must be a whole number of at least 16, not "15"',
        ),
        (
            "sample://shapes?split=train&count=all",
            'source "sample://shapes?split=train&count=all": count must be a whole number of at least 1, not "all"',
        ),
        (
            "sample://shapes?split=train&seed=-1",
            'source "sample://shapes?split=train&seed=-1": seed must be a whole number of at least 0, not "-1"',
        ),
    ],
)
def test_a_query_with_a_mistake(uri, text):
    with pytest.raises(DataError) as error:
        open_source(uri)
    assert str(error.value) == text


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    with pytest.raises(DataError) as error:
        sample.database(SHAPES, cache)
    assert str(error.value) == (
        f'source "{SHAPES}" is drawn into the cache folder {cache}, which cannot be written: Not a directory. '
        "Name another folder in the environment variable LAYERFORGE_CACHE"
    )


def test_a_full_disk(tmp_path, monkeypatch):
    import lmdb

    def full(*arguments, **options):
        raise lmdb.DiskError("mdb_txn_commit: No space left on device")

    monkeypatch.setattr(sample, "write_lmdb", full)
    with pytest.raises(DataError) as error:
        sample.database(SHAPES, tmp_path)
    assert str(error.value) == (
        f'source "{SHAPES}" is drawn into the cache folder {tmp_path}, which cannot be written: '
        "mdb_txn_commit: No space left on device. Name another folder in the environment variable LAYERFORGE_CACHE"
    )
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from layerforge import TRAIN, schema
from layerforge.data import Loader, Source, Transformer, open_source
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.datum import Datum, datum_bytes
from layerforge.errors import DataError, ShapeError
from layerforge.kernels import get_threads

COUNT = 23


def numbered(i, side=6):
    """Record i: pixels that tell where they are, label i."""
    return Datum(1, side, side, bytes((i + p) % 256 for p in range(side * side)), label=i)


class Listed(Source):
    """Records of a list; an exception in it is raised, a function called first."""

    uri = "listed"

    def __init__(self, records):
        self.records = records
        self.reads = []

    def __len__(self):
        return len(self.records)

    def read(self, position):
        self.reads.append(position)
        record = self.records[position]
        if callable(record):
            record = record()
        return record

    def key(self, position):
        return b"key%d" % position

    def close(self):
        pass


def numbers(count=COUNT):
    return Listed([numbered(i) for i in range(count)])


def loader(source=None, batch_size=4, text="crop_size: 4 mirror: true", **options):
    param = schema.parse(text, "TransformationParameter").message
    made = Transformer(param, TRAIN, options.get("seed", 0), options.get("stream", 0))
    return Loader(numbers() if source is None else source, made, batch_size, **options)


def take(made, count):
    """The next batches, copied."""
    try:
        return [tuple(np.array(array) for array in made.next()) for _ in range(count)]
    finally:
        made.close()


def same(a, b):
    return all(np.array_equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def test_records_come_in_order_over_and_over():
    labels = np.concatenate([labels for _, labels in take(loader(threads=2), 20)])
    assert labels.tolist() == [i % COUNT for i in range(80)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_threads_change_nothing(shuffle):
    alone = take(loader(threads=0, shuffle=shuffle, seed=7), 15)
    for threads, prefetch in ((1, 1), (1, 4), (3, 1), (3, 2), (8, 4)):
        assert same(take(loader(threads=threads, prefetch=prefetch, shuffle=shuffle, seed=7), 15), alone)


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_run_goes_on_where_another_stopped(threads, shuffle):
    whole = take(loader(threads=threads, shuffle=shuffle, seed=7), 15)
    first = loader(threads=threads, shuffle=shuffle, seed=7)
    assert first.position == 0
    for _ in range(9):
        first.next()
    assert first.position == 36
    first.close()
    assert same(take(loader(threads=threads, shuffle=shuffle, seed=7, start=36), 6), whole[9:])


@pytest.mark.parametrize("threads", [0, 3])
def test_a_loader_can_be_moved(threads):
    whole = take(loader(threads=threads), 15)
    made = loader(threads=threads)
    for _ in range(5):
        made.next()
    made.seek(12)
    assert made.position == 12
    assert same(take(made, 10), whole[3:13])


def test_a_loader_can_be_moved_before_it_starts_and_given_another_seed():
    other = take(loader(shuffle=True, seed=8), 5)
    made = loader(shuffle=True, seed=7)
    made.seek(8, seed=8)
    assert same(take(made, 3), other[2:])


def test_shuffling_takes_every_record_once_an_epoch():
    labels = np.concatenate([labels for _, labels in take(loader(shuffle=True, batch_size=COUNT), 3)])
    epochs = labels.reshape(3, COUNT)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(COUNT), (3, 1)))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_may_be_larger_than_the_source():
    ((_, labels),) = take(loader(batch_size=50, threads=2), 1)
    assert labels.tolist() == [i % COUNT for i in range(50)]


@pytest.mark.parametrize("label", [-5, 2**24 + 1, 2**31 - 1])
def test_labels_are_exact(label):
    source = Listed([Datum(1, 6, 6, bytes(36), label=label)])
    ((_, labels),) = take(loader(source, batch_size=1, threads=0), 1)
    assert labels.tolist() == [label]


def test_memory_is_taken_once():
    made = loader(threads=2, prefetch=2)
    addresses = {made.next().data.ctypes.data for _ in range(20)}
    made.close()
    assert len(addresses) == 2


def settled(source, count):
    """Waits until so many records were read, and a little longer; how many it is then."""
    for _ in range(500):
        if len(source.reads) >= count:
            break
        time.sleep(0.01)
    time.sleep(0.1)
    return len(source.reads)


def test_no_more_than_prefetch_batches_are_made_ahead():
    source = numbers()
    made = loader(source, threads=2, prefetch=2)
    made.next()
    assert settled(source, 1 + 2 * 4) == 1 + 2 * 4  # the first one's shape, then two batches: one lent, one ahead
    made.release()
    made.release()
    assert settled(source, 1 + 3 * 4) == 1 + 3 * 4
    made.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_waiting_is_counted(threads):
    def slow():
        time.sleep(0.05)
        return numbered(0)

    made = loader(Listed([slow]), batch_size=2, threads=threads)
    assert made.wait_seconds == 0
    made.next()
    assert made.wait_seconds > 0.04
    made.close()


# Records of several shapes.


def test_with_batches_of_one_the_shape_follows_the_record():
    source = Listed([numbered(i, side=4 + i) for i in range(5)])
    for threads in (0, 2):
        made = loader(source, 1, "", threads=threads)
        assert made.shape == (1, 4, 4)
        for i in range(12):
            assert made.peek_shape() == (1, 4 + i % 5, 4 + i % 5)
            batch = made.next()
            assert batch.data.shape == (1, 1, 4 + i % 5, 4 + i % 5)
            assert batch.data[0, 0, 0, 0] == i % 5
        made.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_batch_has_one_shape(threads):
    source = Listed([numbered(i, side=6 if i < 9 else 7) for i in range(COUNT)])
    made = loader(source, text="", threads=threads)
    made.next()
    made.next()
    for _ in range(2):  # the error stays, and so does the position
        with pytest.raises(ShapeError) as error:
            made.next()
        assert str(error.value) == (
            'source "listed": record 9 (key "key9"): it becomes (1, 7, 7), the first record (1, 6, 6), but a batch '
            "needs one shape: write crop_size, or batch_size: 1, or make the records of one size"
        )
        assert made.position == 8
    made.close()


def test_a_record_smaller_than_the_crop():
    source = Listed([numbered(i, side=6 if i != 5 else 3) for i in range(COUNT)])
    made = loader(source, threads=2)
    made.next()
    with pytest.raises(ShapeError) as error:
        made.next()
    made.close()
    assert str(error.value) == (
        'source "listed": record 5 (key "key5"): a crop of 4x4 is larger than a record of 3x3: '
        "crop less, or make the records larger"
    )


# Damaged records.


def damaged(*where):
    return Listed([Datum(data=b"?", encoded=True) if i in where else numbered(i) for i in range(COUNT)])


@pytest.mark.parametrize("threads", [0, 3])
def test_a_damaged_record_is_named(threads):
    made = loader(damaged(9, 10), threads=threads)
    assert [made.next().labels[0] for _ in range(2)] == [0, 4]
    with pytest.raises(DataError) as error:
        made.next()
    made.close()
    assert str(error.value) == 'source "listed": record 9 (key "key9"): its 1 bytes cannot be decoded as an image'


@pytest.mark.parametrize("threads", [0, 3])
def test_damaged_records_are_skipped_if_asked(threads, caplog):
    made = loader(damaged(0, 9, 10), threads=threads, skip_bad=True, prefetch=1)
    labels = np.concatenate([np.array(made.next().labels) for _ in range(6)])
    made.close()
    assert labels.tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 11, 11, 11, *range(12, COUNT), 1]
    assert made.skipped >= 4  # each time that one was met
    assert sorted(caplog.messages) == [
        f'Skipped: source "listed": record {i} (key "key{i}"): its 1 bytes cannot be decoded as an image'
        for i in (0, 10, 9)
    ]


def test_nothing_but_damaged_records():
    made = loader(damaged(*range(COUNT)), skip_bad=True)
    with pytest.raises(DataError) as error:
        made.next()
    made.close()
    assert str(error.value) == 'source "listed": every one of its 23 records is damaged'


# Threads and their end.


def loading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("layerforge-loader")]


def test_threads_start_late_and_end_with_close():
    made = loader(threads=3)
    assert made.shape == (1, 4, 4)
    assert not loading_threads()
    made.next()
    assert len(loading_threads()) == 3
    made.close()
    made.close()
    assert not loading_threads()
    with pytest.raises(DataError) as error:
        made.next()
    assert str(error.value) == 'source "listed": its loader is closed'


def test_threads_end_with_the_loader():
    made = loader(threads=3)
    made.next()
    del made
    gc.collect()
    assert not loading_threads()


def test_the_default_is_as_many_threads_as_compute():
    assert loader().threads == get_threads()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_interrupt_while_waiting(threads):
    """The net's thread may be interrupted at any moment; nothing is lost, and closing is quick."""
    blocked = threading.Event()

    def never():
        blocked.wait(10)
        return numbered(3)

    records = [numbered(i) for i in range(COUNT)]
    records[6] = never
    made = loader(Listed(records), threads=threads, prefetch=2)
    assert made.next().labels.tolist() == [0, 1, 2, 3]
    timer = threading.Timer(0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        made.next()
    timer.join()
    assert made.position == 4
    blocked.set()
    assert made.next().labels.tolist() == [4, 5, 3, 7]
    begin = time.perf_counter()
    made.close()
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("how", ["pass", "raise SystemExit(0)", "del made"])
def test_a_process_ends_while_threads_work(how, tmp_path):
    write_lmdb(tmp_path / "db", ((b"%05d" % i, datum_bytes(numbered(i, side=64))) for i in range(100)))
    code = f"""
from layerforge import schema
from layerforge.data import Loader, Transformer, open_source
made = Loader(open_source({str(tmp_path / "db")!r}),
              Transformer(schema.message("TransformationParameter")(mirror=True), 0), 50, threads=4)
made.next()
{how}
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_from_a_database(tmp_path):
    write_lmdb(tmp_path / "db", ((b"%05d" % i, datum_bytes(numbered(i))) for i in range(500)))
    lists = []
    for threads in (0, 4):
        source = open_source(tmp_path / "db", readahead=False)
        lists.append(take(loader(source, 16, threads=threads, shuffle=True, start=300), 40))
        source.close()
    assert same(*lists)

import itertools

import h5py
import numpy as np
import pytest

from layerforge.data import hdf5_source
from layerforge.data.hdf5_source import Hdf5Source
from layerforge.errors import DataError

ROWS = (5, 1, 8)


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three files: row i of all has data (2, 3) full of i, and label i."""
    monkeypatch.chdir(tmp_path)
    first = 0
    for number, rows in enumerate(ROWS):
        values = np.arange(first, first + rows)
        write(f"part{number}.h5", data=np.tile(values[:, None, None], (1, 2, 3)).astype(np.float64), label=values)
        first += rows
    (tmp_path / "list.txt").write_text("part0.h5\n\n  part1.h5  \npart2.h5")
    return tmp_path


def read(source, position, count):
    data, labels = np.empty((count, 2, 3), np.float32), np.empty(count, np.float32)
    source.fill(position, [data, labels])
    assert np.array_equal(data, np.tile(labels[:, None, None], (1, 2, 3)))
    return labels.astype(int).tolist()


@pytest.fixture(params=["held", "sliced"])
def size(request, monkeypatch):
    if request.param == "sliced":
        monkeypatch.setattr(hdf5_source, "HELD", 0)


@pytest.mark.usefixtures("size", "folder")
class TestOrder:
    def test_rows_come_in_order_over_and_over(self):
        source = Hdf5Source("list.txt", ["data", "label"])
        assert len(source) == 14
        assert source.shapes == {"data": (2, 3), "label": ()}
        assert read(source, 0, 33) == [i % 14 for i in range(33)]
        assert [read(source, i, 4) for i in (4, 27, 12)] == [[4, 5, 6, 7], [13, 0, 1, 2], [12, 13, 0, 1]]
        source.close()
        assert read(source, 5, 1) == [5]

    def test_shuffled_rows_stay_within_their_file(self):
        source = Hdf5Source("list.txt", ["data", "label"], shuffle=True, seed=1, stream=2)
        epochs = [read(source, 14 * epoch, 14) for epoch in range(20)]
        assert all(sorted(epoch) == list(range(14)) for epoch in epochs)
        file_of = [0] * 5 + [1] + [2] * 8
        order = [[file_of[row] for row in epoch] for epoch in epochs]
        assert all(sum(a != b for a, b in itertools.pairwise(epoch)) == 2 for epoch in order)
        assert len({tuple(dict.fromkeys(epoch)) for epoch in order}) > 2  # the order of the files
        assert len({tuple(row for row in epoch if row < 5) for epoch in epochs}) > 10  # and of rows

    def test_shuffled_rows_follow_from_the_key(self):
        def rows(seed=1, stream=2, parts=((0, 50),)):
            source = Hdf5Source("list.txt", ["data", "label"], shuffle=True, seed=seed, stream=stream)
            return [row for position, count in parts for row in read(source, position, count)]

        assert rows(parts=((0, 3), (3, 20), (23, 27))) == rows()
        assert rows(parts=((40, 10),)) == rows()[40:]
        assert rows(seed=2) != rows()
        assert rows(stream=3) != rows()
        source = Hdf5Source("list.txt", ["data", "label"], shuffle=True, seed=1, stream=2)
        read(source, 0, 3)
        source.reseed(2)
        assert read(source, 0, 50) == rows(seed=2)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u2", "i8", "?", ">f4"])
def test_floats_and_integers(tmp_path, dtype):
    values = np.array([1, 0, 1, 1]).astype(dtype)
    write(tmp_path / "a.h5", x=values)
    (tmp_path / "list.txt").write_text("a.h5")  # beside the list, not in the current folder
    out = np.empty(4, np.float32)
    Hdf5Source(str(tmp_path / "list.txt"), ["x"]).fill(0, [out])
    assert out.tolist() == [1, 0, 1, 1]


# What is wrong.


def refused(*names, uri="list.txt"):
    with pytest.raises(DataError) as error:
        Hdf5Source(uri, names or ["data", "label"])
    return str(error.value)


def test_no_list(folder):
    assert refused(uri="lst.txt") == 'source "lst.txt" cannot be read: No such file or directory'
    assert refused(uri="") == 'no source is named. Write source: "files.txt", a text file that lists HDF5 files'
    (folder / "empty.txt").write_text("\n")
    assert refused(uri="empty.txt") == 'source "empty.txt" lists no files'
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    assert refused(uri="binary") == 'source "binary" is no text file that lists HDF5 files'


def test_a_file_instead_of_a_list(folder):
    assert refused(uri="part0.h5") == (
        'source "part0.h5" is itself an HDF5 file. Write the name of a text file that lists it: '
        "echo part0.h5 > part0.txt"
    )


def test_a_missing_file(folder):
    (folder / "list.txt").write_text("part0.h5\npart9.h5\n")
    assert refused() == 'source "list.txt" lists part9.h5, which does not exist'


def test_a_file_that_is_no_hdf5(folder):
    (folder / "part1.h5").write_bytes(b"text")
    said = refused()
    assert said.startswith('source "list.txt": part1.h5 cannot be read as HDF5: ')
    assert "file signature not found" in said  # the rest is the library's own


def test_a_missing_dataset(folder):
    assert refused("data", "labels") == (
        'source "list.txt": part0.h5 has no dataset "labels". Did you mean "label"? '
        "It has: data, label. Tops are read from the datasets of their names"
    )
    write(folder / "part0.h5")
    assert refused("data") == (
        'source "list.txt": part0.h5 has no dataset "data". It has: none. '
        "Tops are read from the datasets of their names"
    )


def test_unequal_datasets(folder):
    write(folder / "part1.h5", data=np.zeros((3, 2, 3)), label=np.zeros(2))
    assert refused() == 'source "list.txt": dataset "label" of part1.h5 has 2 rows, but "data" has 3'


def test_rows_of_another_shape(folder):
    write(folder / "part1.h5", data=np.zeros((3, 2, 4)), label=np.zeros(3))
    assert refused() == 'source "list.txt": a row of dataset "data" of part1.h5 is (2, 4), but (2, 3) in part0.h5'


def test_a_dataset_that_is_one_number(folder):
    write(folder / "part0.h5", data=np.zeros((3, 2, 3)), label=3.0)
    assert refused() == 'source "list.txt": dataset "label" of part0.h5 has no axis that counts samples'


def test_a_dataset_of_text(folder):
    write(folder / "part0.h5", data=np.zeros((3, 2, 3)), label=np.array([b"a", b"b", b"c"]))
    assert refused() == (
        'source "list.txt": dataset "label" of part0.h5 is of type |S1; floats and integers can be read'
    )


def test_no_rows(folder):
    write(folder / "part0.h5", data=np.zeros((0, 2, 3)), label=np.zeros(0))
    (folder / "list.txt").write_text("part0.h5\n")
    assert refused() == 'source "list.txt": its file holds no rows'


@pytest.mark.usefixtures("size")
def test_a_file_that_is_damaged_within(folder):
    with h5py.File("part0.h5", "w") as file:
        made = file.create_dataset("data", data=np.arange(30.0).reshape(5, 2, 3), fletcher32=True, chunks=(5, 2, 3))
        at = made.id.get_chunk_info(0).byte_offset
        file["label"] = np.arange(5)
    source = Hdf5Source("list.txt", ["data", "label"])
    content = bytearray((folder / "part0.h5").read_bytes())
    content[at] ^= 255
    (folder / "part0.h5").write_bytes(content)
    with pytest.raises(DataError) as error:
        read(source, 0, 5)
    said = str(error.value)
    assert said.startswith('source "list.txt": part0.h5 is damaged: ')  # the rest is the library's own

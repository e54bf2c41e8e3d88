"""Files that appear whole or not at all."""

import errno
import os
import stat

import numpy as np
import pytest

from layerforge import files
from layerforge.errors import SnapshotError


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_in_the_end(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with files.atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        (part,) = set(listing(tmp_path)) - {"a"}
        assert part.startswith(".a.") and part.endswith(".part")
    assert path.read_text() == "new"
    assert listing(tmp_path) == ["a"]


def test_its_rights_are_those_of_any_file(tmp_path):
    before = os.umask(0o027)
    try:
        with files.atomic(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a"]


def test_together(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    with files.together(paths) as parts:
        for path, part in zip(paths, parts, strict=True):
            with open(part, "w") as file:
                file.write(path.name)
        assert not set(listing(tmp_path)) & set("abc")
    assert [path.read_text() for path in paths] == ["a", "b", "c"]
    assert listing(tmp_path) == ["a", "b", "c"]


def test_an_error_leaves_none_of_several(tmp_path):
    with pytest.raises(ZeroDivisionError), files.together([tmp_path / "a", tmp_path / "b"]):
        raise ZeroDivisionError
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    "number, remedy",
    [
        (errno.ENOSPC, "the disk is full. Free some space; what was written before is untouched"),
        (errno.EACCES, 'the folder "{folder}" cannot be written to. Choose another one, or change that'),
        (errno.EROFS, 'the folder "{folder}" cannot be written to. Choose another one, or change that'),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_says(tmp_path, monkeypatch, number, remedy):
    def fsync(handle):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SnapshotError) as error, files.atomic(path) as file:
        file.write(b"new")
    assert str(error.value) == f"cannot write {path}: {remedy.format(folder=tmp_path)}"
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a"]


def test_no_folder(tmp_path):
    with pytest.raises(SnapshotError) as error, files.atomic(tmp_path / "none" / "a"):
        pass
    none = tmp_path / "none"
    assert str(error.value) == (
        f'cannot write {none / "a"}: there is no folder "{none}". Make it, or choose another one'
    )


def test_what_hdf5_says(tmp_path):
    said = "Can't decrement id ref count (unable to extend file properly, errno = 28, error message = 'No space left')"
    with pytest.raises(SnapshotError) as error, files.explained(tmp_path / "a"):
        raise RuntimeError(said)
    assert str(error.value) == (
        f"cannot write {tmp_path / 'a'}: the disk is full. Free some space; what was written before is untouched"
    )
    with pytest.raises(RuntimeError), files.explained(tmp_path / "a"):
        raise RuntimeError("something else")


def test_find(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / "net").write_text("")
    solver = str(tmp_path / "there" / "solver")
    assert files.find("net", solver) == str(tmp_path / "there" / "net")
    assert files.find(str(tmp_path / "there" / "net"), None) == str(tmp_path / "there" / "net")
    (tmp_path / "here" / "net").write_text("")
    assert files.find("net", solver) == "net", "the current folder goes first, as in Caffe"
    assert files.find("none", solver) is None
    assert files.find("none", None) is None
    assert files.find(str(tmp_path / "none"), solver) is None


def test_arrays_are_written_whole(tmp_path):
    array = np.arange(1000, dtype=np.float32)
    with files.atomic(tmp_path / "a") as file:
        file.write(array.data)
    assert np.array_equal(np.fromfile(tmp_path / "a", np.float32), array)

import numpy as np
import pytest

from layerforge.data.image_list import ImageList, read_list
from layerforge.data.source import BadRecord
from layerforge.errors import DataError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Images a.jpg, "my cat 7.jpg" and "frame 12", which are none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "my cat 7.jpg", "frame 12"):
        (tmp_path / "images" / name).write_text(f"bytes of {name}")
    return tmp_path


def listed(text, root="images/", name="list.txt"):
    with open(name, "w", newline="") as file:
        file.write(text)
    return read_list(name, root)


@pytest.mark.parametrize(
    "text, paths, labels, lines",
    [
        ("a.jpg 3\nb.jpg 4\n", ["a.jpg", "b.jpg"], [[3], [4]], [1, 2]),
        ("my cat 7.jpg 0", ["my cat 7.jpg"], [[0]], [1]),
        ("\n\na.jpg 1\n  \nb.jpg 2\n\n", ["a.jpg", "b.jpg"], [[1], [2]], [3, 5]),
        ("a.jpg 3\r\nb.jpg 4\r\n", ["a.jpg", "b.jpg"], [[3], [4]], [1, 2]),
        ("a.jpg\t3  \nb.jpg   -4", ["a.jpg", "b.jpg"], [[3], [-4]], [1, 2]),
        ("a.jpg 0.25\nb.jpg 1e-3", ["a.jpg", "b.jpg"], [[0.25], [0.001]], [1, 2]),
        ("a.jpg 1 2 0.5\nb.jpg 3 4 5", ["a.jpg", "b.jpg"], [[1, 2, 0.5], [3, 4, 5]], [1, 2]),
        ("no.jpg 1 2\na.jpg 3 4", ["no.jpg", "a.jpg"], [[1, 2], [3, 4]], [1, 2]),
        ("frame 12 5", ["frame 12"], [[5]], [1]),  # as in Caffe: what exists decides
        ("nowhere.jpg 1 2", ["nowhere.jpg 1"], [[2]], [1]),
        ("a.jpg 2147483647", ["a.jpg"], [[2147483647]], [1]),
    ],
)
def test_lists(text, paths, labels, lines):
    found = listed(text)
    assert found.paths == paths
    assert found.labels.tolist() == labels
    assert found.lines.tolist() == lines
    assert len(found) == len(paths)


def test_letters_of_any_kind(folder):
    (folder / "list.txt").write_bytes("größe.jpg 1\n".encode() + b"\xe9t\xe9.jpg 2\n")
    (folder / "images" / "größe.jpg").write_text("here")
    source = ImageList("list.txt", "images/")
    assert bytes(source.read(0).data) == b"here"
    assert [source.key(0), source.key(1)] == ["größe.jpg".encode(), b"\xe9t\xe9.jpg"]


def test_a_source(folder):
    listed("a.jpg 3\nmy cat 7.jpg 0.5\n")
    source = ImageList("list.txt", "images/")
    assert len(source) == 2
    assert source.label_shape == ()
    datum = source.read(1)
    assert datum.encoded
    assert bytes(datum.data) == b"bytes of my cat 7.jpg"
    assert source.label(1, datum) == 0.5
    assert source.values([0, 1]) is None  # they are no Datums
    assert source.describe(1) == 'list.txt:2: "images/my cat 7.jpg"'


def test_several_labels():
    listed("a.jpg 3 4\nb.jpg 0.5 6\n")
    source = ImageList("list.txt", "images/")
    assert source.label_shape == (2,)
    assert source.label(1, None).tolist() == [0.5, 6]


def test_the_cache(folder):
    listed("a.jpg 3\n")
    source = ImageList("list.txt", "images/", cache=True)
    first = source.read(0)
    (folder / "images" / "a.jpg").unlink()
    assert source.read(0) == first
    source.close()
    with pytest.raises(BadRecord):
        source.read(0)


def test_a_million_lines_are_quick(folder):
    (folder / "list.txt").write_text("".join(f"n01440764/n01440764_{i}.JPEG {i % 1000}\n" for i in range(100_000)))
    found = read_list("list.txt", "images/")
    assert np.array_equal(found.labels[:, 0], np.arange(100_000) % 1000)


# What is wrong.


def refused(text, root="images/"):
    with pytest.raises(DataError) as error:
        listed(text, root)
    return str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "a.jpg 1\nb.jpg\n",
            'list.txt:2: "b.jpg" must end with a label. Write a path, a space and a number',
        ),
        (
            "a.jpg 1\nb.jpg one",
            'list.txt:2: "b.jpg one" must end with a label. Write a path, a space and a number',
        ),
        ("7", 'list.txt:1: "7" must end with a label. Write a path, a space and a number'),
        (
            "a.jpg 1 2 3\nb.jpg 1\n",
            'list.txt:2: "b.jpg 1" must end with 3 labels, as the first line has, but 1 number. '
            "Write a path, a space and a number for each label",
        ),
        (
            "a.jpg 1 2 3\nb.jpg\n",
            'list.txt:2: "b.jpg" must end with 3 labels, as the first line has, but no numbers. '
            "Write a path, a space and a number for each label",
        ),
        ("a.jpg 1\nb.jpg nan", 'list.txt:2: the label of "b.jpg" is nan; it must be a finite number'),
        ("a.jpg -inf\nb.jpg 1", 'list.txt:1: the label of "a.jpg" is -inf; it must be a finite number'),
        ("\n \n", 'source "list.txt" lists no images'),
        ("PNG\0\1", 'source "list.txt" is no text file with a path and a label on each line'),
    ],
)
def test_lists_that_are_wrong(text, expected):
    assert refused(text) == expected


def test_no_list():
    with pytest.raises(DataError) as error:
        read_list("none.txt")
    assert str(error.value) == 'source "none.txt" cannot be read: No such file or directory'
    with pytest.raises(DataError) as error:
        read_list("")
    assert str(error.value) == (
        'no source is named. Write source: "list.txt": on each line of that file a path and a label'
    )


def test_an_image_that_is_missing():
    with pytest.raises(BadRecord) as error:
        listed("a.jpg 1\n\nb.jpg 2").read(1)
    assert str(error.value) == 'list.txt:3: "images/b.jpg": No such file or directory'
    with pytest.raises(BadRecord) as error:
        listed("a.jpg 1", root="images").read(0)
    assert str(error.value) == (
        'list.txt:1: "imagesa.jpg": No such file or directory. '
        'Write a slash at the end of "images", which is put before each path as it is'
    )
    with pytest.raises(BadRecord) as error:
        listed(". 1").read(0)
    assert str(error.value) == 'list.txt:1: "images/.": Is a directory'

import pytest

from layerforge.data.source import BadRecord
from layerforge.data.window_file import Window, WindowFile
from layerforge.errors import DataError

GOOD = """# 0
a b.jpg
3
40
50
2
7 0.8 1 2 30 20
0 0.1 0 0 9 9

# 1
c.jpg
3
10
10
0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(text, root=""):
    with open("windows.txt", "w", newline="") as file:
        file.write(text)
    return WindowFile("windows.txt", root)


@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n\n"])
def test_a_file(end):
    text = GOOD.replace("\n", end)
    found = read(text, "images/")
    assert found.paths == ["images/a b.jpg", "images/c.jpg"]
    assert found.channels == 3
    step = 2 if end == "  \n\n" else 1
    assert [window[:4] for window in found.windows] == [(0, 7, 0.8, (1, 2, 30, 20)), (0, 0, 0.1, (0, 0, 9, 9))]
    assert [window.line for window in found.windows] == [6 * step + 1, 7 * step + 1]


def test_the_index_does_not_matter():
    """Files that are joined count from 0 again; Caffe took the windows of one for those of another image."""
    image = "a.jpg\n1\n5\n5\n1\n1 1 0 0 1 1\n"
    found = read(f"# 0\n{image}# 0\n{image}#\n{image}")
    assert [window.image for window in found.windows] == [0, 1, 2]
    assert found.windows[0] == Window(0, 1, 1.0, (0, 0, 1, 1), 7)


NO_WINDOW = "is no window: it must be class, overlap, x1, y1, x2, y2"
NO_IMAGE = "is not the beginning of an image: write # and its index"


@pytest.mark.parametrize(
    "old, new, text",
    [
        (GOOD, "", 'source "windows.txt" lists no images'),
        ("# 0\n", "", f'windows.txt:1: "a b.jpg" {NO_IMAGE}'),
        ("7 0.8", "x 0.8", f'windows.txt:7: "x 0.8 1 2 30 20" {NO_WINDOW}'),
        ("7 0.8", "7 y", f'windows.txt:7: "7 y 1 2 30 20" {NO_WINDOW}'),
        ("30 20", "30", f'windows.txt:7: "7 0.8 1 2 30" {NO_WINDOW}'),
        ("30 20", "30 20 1", f'windows.txt:7: "7 0.8 1 2 30 20 1" {NO_WINDOW}'),
        ("30 20", "30 2.5", f'windows.txt:7: "7 0.8 1 2 30 2.5" {NO_WINDOW}'),
        ("7 0.8", "7 nan", "windows.txt:7: the overlap is nan; it must be a finite number"),
        ("50\n2\n", "50\n1\n", f'windows.txt:8: "0 0.1 0 0 9 9" {NO_IMAGE}'),
        ("50\n2\n", "50\n3\n", f'windows.txt:10: "# 1" {NO_WINDOW}'),
        ("jpg\n3\n40", "jpg\nthree\n40", 'windows.txt:3: "three" is not the number of channels'),
        ("40\n50", "-1\n50", 'windows.txt:4: "-1" is not the height'),
        ("40\n50", "40\n5x", 'windows.txt:5: "5x" is not the width'),
        ("50\n2\n", "50\nno\n", 'windows.txt:6: "no" is not the number of windows'),
        ("jpg\n3\n40", "jpg\n4\n40", "windows.txt:3: an image has 4 channels; 1 and 3 can be read"),
        ("jpg\n3\n10", "jpg\n1\n10", "windows.txt:12: an image has 1 channels, those before have 3"),
        ("10\n10\n0\n", "10\n", 'source "windows.txt" ends where the width should follow'),
        ("10\n10\n0\n", "10\n10\n1\n", "windows.txt:15: the number of windows is 1, but the file ends after 0"),
    ],
)
def test_files_that_are_wrong(old, new, text):
    assert old in GOOD
    with pytest.raises(DataError) as error:
        read(GOOD.replace(old, new, 1))
    assert str(error.value) == text


def test_no_file():
    with pytest.raises(DataError) as error:
        WindowFile("none.txt")
    assert str(error.value) == 'source "none.txt" cannot be read: No such file or directory'
    with pytest.raises(DataError) as error:
        WindowFile("")
    assert str(error.value) == 'no source is named. Write source: "windows.txt", a window file'


def test_an_image_that_is_missing():
    with pytest.raises(BadRecord) as error:
        read(GOOD, "images/").read_file(1)
    assert str(error.value) == 'windows.txt:11: "images/c.jpg": No such file or directory'

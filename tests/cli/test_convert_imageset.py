"""The databases that Caffe's own convert_imageset made of the same images, record for record, and bad input."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerforge.data import open_source
from layerforge.data.decode import decode

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
IMAGES = 14


@pytest.fixture
def images(lab):
    """The images and the list of the golden cases, in the current folder."""
    shutil.copytree(GOLDEN / "images", "images")
    shutil.copy(GOLDEN / "list.txt", "list.txt")
    return lab


def convert(lab, *flags, root="images/", database="db", listed="list.txt"):
    return lab.run("convert_imageset", root, listed, database, *flags)


def records(path):
    source = open_source(path)
    found = [(source.key(i), source.read(i)) for i in range(len(source))]
    source.close()
    return [(key, {**{name: getattr(d, name) for name in d.__slots__}, "data": bytes(d.data)}) for key, d in found]


RESIZED = ("-resize_height=28", "-resize_width=32")


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
@pytest.mark.parametrize(
    "flags, golden",
    [
        (RESIZED, "raw_lmdb"),
        (RESIZED, "raw_leveldb"),
        ((*RESIZED, "-gray"), "grey_lmdb"),
        (("-encoded",), "encoded_lmdb"),
        (("-encoded=true", "--noshuffle"), "encoded_lmdb"),
    ],
)
def test_what_caffe_made(images, tmp_path, backend, flags, golden):
    ran = convert(images, *flags, "-backend", backend)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    shutil.copytree(GOLDEN / golden, tmp_path / "golden")
    assert records("db") == records(tmp_path / "golden")
    assert (Path("db") / "data.mdb").exists() == (backend == "lmdb")


def test_what_caffe_encoded_anew(images, tmp_path):
    """The pixels; the bytes of a PNG are its library's."""
    assert convert(images, *RESIZED, "-encoded", "-encode_type", "png").status == 0
    shutil.copytree(GOLDEN / "png_lmdb", tmp_path / "golden")
    ours, caffes = open_source("db"), open_source(tmp_path / "golden")
    assert len(ours) == len(caffes) == IMAGES
    for i in range(IMAGES):
        one, other = ours.read(i), caffes.read(i)
        assert (ours.key(i), one.label, one.encoded) == (caffes.key(i), other.label, True)
        assert np.array_equal(decode(one).pixels, decode(other).pixels)


def test_files_are_kept_only_if_they_are_of_the_type(images):
    assert convert(images, "-encode_type=jpg").status == 0
    for key, record in records("db"):
        file = Path("images", key.decode()[9:])
        assert (record["data"] == file.read_bytes()) == (file.suffix == ".jpg")
        assert record["data"][:3] == b"\xff\xd8\xff"


def test_a_name_in_capital_letters(images):
    os.rename("images/img_00.jpg", "images/IMG.JPEG")
    Path("list.txt").write_text("IMG.JPEG 3\n")
    for type_ in ("", "jpg", "jpeg", "JPG"):
        assert convert(images, "-encoded", f"-encode_type={type_}", database=f"db{type_}").status == 0
        ((key, record),) = records(f"db{type_}")
        assert (key, record["data"]) == (b"00000000_IMG.JPEG", Path("images/IMG.JPEG").read_bytes())


def test_shuffled(images):
    def order(name, *flags):
        assert convert(images, *RESIZED, "-shuffle", *flags, database=name).status == 0
        found = records(name)
        assert [int(key[:8]) for key, _ in found] == list(range(IMAGES))
        labels = {line.split()[0]: int(line.split()[1]) for line in Path("list.txt").read_text().splitlines()}
        assert all(labels[key[9:].decode()] == record["label"] for key, record in found)
        return [key[9:] for key, _ in found]

    first, second, other = order("a"), order("b"), order("c", "--seed", "2")
    assert first == second != other
    assert sorted(first) == sorted(other) != first


def test_one_line_in_a_pipe(images):
    ran = convert(images)
    (line,) = ran.log
    words = line.split()
    assert words[:7] == ["Wrote", "14", "images", "to", "db", "in", words[6]]
    assert words[7:8] + words[9:10] == ["s,", "images/s,"]
    assert (words[-1], float(words[-2]) > 0) == ("kB.", True)


def test_bad_images_are_left_out_and_listed(images):
    Path("images/img_03.png").write_bytes(b"no image")
    Path("images/img_05.png").unlink()
    ran = convert(images)
    assert ran.status == 0
    assert ran.log[1:] == [
        "2 of 14 images cannot be read. They were left out:",
        'list.txt:4: "images/img_03.png": its 8 bytes cannot be decoded as an image',
        'list.txt:6: "images/img_05.png": No such file or directory',
    ]
    assert ran.log[0].startswith("Wrote 12 images to db in ")
    keys = [key for key, _ in records("db")]
    assert len(keys) == 12
    assert keys[3] == b"00000004_img_04.jpg"  # as in Caffe, the number is that of the line


def test_strict(images):
    Path("images/img_05.png").unlink()
    ran = convert(images, "--strict")
    assert (ran.status, ran.log) == (1, [])
    assert ran.err == (
        'list.txt:6: "images/img_05.png": No such file or directory\n'
        "1 of 14 images cannot be read. No database was made\n"
    )
    assert not Path("db").exists()


def test_the_wrong_root(images):
    Path("list.txt").write_text("img_00.jpg 1\nimg_01.png 2\n")
    ran = convert(images, root="images")
    hint = '. Write a slash at the end of "images", which is put before each path as it is'
    assert (ran.status, ran.err) == (
        1,
        f'list.txt:1: "imagesimg_00.jpg": No such file or directory{hint}\n'
        f'list.txt:2: "imagesimg_01.png": No such file or directory{hint}\n'
        "2 of 2 images cannot be read. No database was made\n",
    )


def test_sizes_that_differ(images):
    ran = convert(images, "-check_size")
    assert (ran.status, ran.err) == (
        1,
        'list.txt:2: "images/img_01.png": it is (3, 43, 58), the first image (3, 40, 60)\n',
    )
    assert convert(images, "-check_size", *RESIZED).status == 0


def test_a_type_that_cannot_be_written(images):
    ran = convert(images, "-encode_type", "xyz")
    assert ran.status == 1
    assert ran.err.splitlines()[0] == (
        'list.txt:1: "images/img_00.jpg": it cannot be encoded as "xyz". Choose another --encode-type: jpg or png, say'
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", 'source "list.txt" lists no images\n'),
        (
            "img_00.jpg 0\nimg_01.png\n",
            'list.txt:2: "img_01.png" must end with a label. Write a path, a space and a number\n',
        ),
        (
            "img_00.jpg 0\nimg_01.png 0.5\n",
            "list.txt:2: label 0.5 must be a whole number of 32 bits to go into a database. Read this list by a layer "
            "of type ImageData, or write HDF5\n",
        ),
        (
            "img_00.jpg 2147483648\n",
            "list.txt:1: label 2.14748e+09 must be a whole number of 32 bits to go into a database. Read this list by "
            "a layer of type ImageData, or write HDF5\n",
        ),
        (
            "img_00.jpg 1 2\n",
            "list.txt: each line has 2 labels, but a record of a database has one. Read this list by a layer of type "
            "ImageData, or write HDF5\n",
        ),
    ],
)
def test_lists_that_are_wrong(images, text, expected):
    Path("list.txt").write_text(text)
    ran = convert(images)
    assert (ran.status, ran.err, ran.log) == (1, expected, [])
    assert sorted(os.listdir()) == ["images", "list.txt", "net.prototxt", "solver.prototxt"]


def test_a_database_that_exists(images):
    Path("db").mkdir()
    ran = convert(images)
    assert (ran.status, ran.err) == (
        1,
        '"db" exists already and is not overwritten. Take another name, or remove it: rm -r db\n',
    )


@pytest.mark.parametrize(
    "flags, text",
    [
        (("-resize_width=3",), "give both --resize-width and --resize-height, or none of them"),
        (("-backend", "rocksdb"), 'argument --backend: "rocksdb" is none of lmdb, leveldb'),
        (("-grey",), "there is no flag --grey. Did you mean --gray?"),
    ],
)
def test_flags_that_make_no_sense(images, flags, text):
    ran = convert(images, *flags)
    assert (ran.status, ran.err) == (
        2,
        f"layerforge convert_imageset: {text}\nlayerforge convert_imageset --help tells the flags.\n",
    )


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupt_leaves_nothing(images, number, status):
    cv2.imwrite("images/large.png", np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8))
    Path("list.txt").write_text("large.png 0\n" * 4_000)
    code = "import sys; from layerforge.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "convert-imageset", "images/", "list.txt", "db"], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        begin = time.monotonic()
        while not (parts := list(Path().glob(".db.*.part/data.mdb"))) or parts[0].stat().st_size < 10_000_000:
            assert time.monotonic() - begin < 60
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (status, "", "Interrupted.\n" if number == signal.SIGINT else "")
    assert sorted(os.listdir()) == ["images", "list.txt", "net.prototxt", "solver.prototxt"]


def test_opencv_gets_its_threads_back(images):
    before = cv2.getNumThreads()
    convert(images)
    assert cv2.getNumThreads() == before

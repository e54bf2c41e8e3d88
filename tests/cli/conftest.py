"""A folder with a small net and its solver, in which the command line is run."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from layerforge.cli import main
from layerforge.datum import Datum, datum_bytes
from layerforge.device import cuda
from layerforge.engines import onednn
from layerforge.errors import DeviceError


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """The same answers on a machine with a GPU."""

    def driver_version():
        raise DeviceError(cuda.NO_DRIVER)

    monkeypatch.setattr(cuda, "driver_version", driver_version)
    monkeypatch.setattr(cuda, "GPUS", {})


NET = """name: "Toy"
layer {
  name: "data"
  type: "DummyData"
  top: "data"
  top: "label"
  dummy_data_param {
    shape { dim: 4 dim: 3 dim: 8 dim: 8 }
    shape { dim: 4 }
    data_filler { type: "gaussian" }
    data_filler { type: "constant" value: 1 }
  }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "ip"
  type: "InnerProduct"
  bottom: "conv"
  top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

SOLVER = """net: "net.prototxt"
test_iter: 2
test_interval: 4
base_lr: 0.05
momentum: 0.9
max_iter: 8
display: 2
snapshot: 4
snapshot_prefix: "toy"
random_seed: 1
"""

RECORDS = """  type: "Data"
  top: "data"
  top: "label"
  data_param { source: "records" batch_size: 4 }
}
"""


@dataclass
class Ran:
    """What a command line did: exit status, stdout, stderr without the log, the log's lines without their prefix."""

    status: int
    out: str
    err: str
    log: list[str]


def datum(label: int = 0, data: bytes = bytes(3 * 8 * 8), encoded: bool = False) -> bytes:
    """A record of the net above, black unless ``data`` says otherwise."""
    return datum_bytes(Datum(3, 8, 8, data, label, encoded, None))


class Lab:
    """A folder with ``net.prototxt`` and ``solver.prototxt``."""

    datum = staticmethod(datum)

    def __init__(self, folder: Path, capsys):
        self.folder = folder
        self.capsys = capsys
        # What is told once for each net. Four channels are no case for oneDNN's convolutions.
        told = ["Engine CAFFE computes conv", "Engine MKLDNN computes ip"]
        self.engines = told if onednn.available() else ["Engine CAFFE computes conv, ip"]
        self.write("net.prototxt", NET)
        self.write("solver.prototxt", SOLVER)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def read_records(self) -> None:
        """Has the net read an LMDB, ``records``."""
        begin, end = NET.index('  type: "DummyData"'), NET.index('layer {\n  name: "conv"')
        self.change("net.prototxt", NET[begin:end], RECORDS)

    def write_records(self, records: dict[bytes, bytes]) -> Path:
        """Writes the LMDB that `read_records` speaks of, and returns its file."""
        import lmdb

        environment = lmdb.open(str(self.folder / "records"), map_size=1 << 24)
        with environment.begin(write=True) as transaction:
            for key, value in records.items():
                transaction.put(key, value)
        environment.close()
        return self.folder / "records" / "data.mdb"

    def run(self, *argv: str) -> Ran:
        status = main(list(argv))
        out, err = self.capsys.readouterr()
        lines = err.splitlines(keepends=True)
        logged = [line for line in lines if line[:1] in "IWEF" and line[1:5].isdigit()]
        rest = "".join(line for line in lines if line not in logged)
        return Ran(status, out, rest, [line.partition("] ")[2].rstrip("\n") for line in logged])

    def train(self, *argv: str) -> Ran:
        return self.run("train", "--solver", "solver.prototxt", *argv)


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path, capsys)

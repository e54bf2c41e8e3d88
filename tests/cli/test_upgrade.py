"""layerforge upgrade: old nets and solvers, as text and as bytes."""

import numpy as np
import pytest

import layerforge as caffe
from layerforge import schema

V1 = """
# the net of 2013
name: "Old"
input: "data"
input_dim: 2 input_dim: 1 input_dim: 4 input_dim: 4
layers {
  name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  inner_product_param { num_output: 3 }
}
layers { name: "relu" type: RELU bottom: "ip" top: "ip" }
"""

TODAY = """name: "Old"
layer {
  name: "input"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: 2
      dim: 1
      dim: 4
      dim: 4
    }
  }
}
layer {
  name: "ip"
  type: "InnerProduct"
  bottom: "data"
  top: "ip"
  param {
    lr_mult: 1
    decay_mult: 1
  }
  param {
    lr_mult: 2
    decay_mult: 0
  }
  inner_product_param {
    num_output: 3
  }
}
layer {
  name: "relu"
  type: "ReLU"
  bottom: "ip"
  top: "ip"
}
"""


def test_net_as_text(lab):
    lab.write("old.prototxt", V1)
    ran = lab.run("upgrade", "old.prototxt", "new.prototxt")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == 'new.prototxt: net "Old" of 3 layers, upgraded from V1 and input fields.\n'
    assert (lab.folder / "new.prototxt").read_text() == TODAY


@pytest.mark.parametrize("verb", ["upgrade", "upgrade_net_proto_text", "upgrade-net-proto-text"])
def test_a_file_of_today_is_written_as_it_is(lab, verb):
    lab.write("net.prototxt", TODAY)
    ran = lab.run(verb, "net.prototxt", "net.prototxt")
    assert ran.out == 'net.prototxt: net "Old" of 3 layers, of today\'s form already.\n'
    assert (lab.folder / "net.prototxt").read_text() == TODAY


def test_v0(lab):
    lab.write(
        "old.prototxt",
        'layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 } bottom: "x" top: "c" }',
    )
    ran = lab.run("upgrade", "old.prototxt", "new.prototxt")
    assert ran.out == "new.prototxt: net of 1 layer, upgraded from V0.\n"
    made = schema.read("new.prototxt", "NetParameter").message.layer[0]
    assert (made.type, made.convolution_param.num_output) == ("Convolution", 2)


def test_batch_norm(lab):
    params = "param { lr_mult: 1 } " * 3
    lab.write("old.prototxt", f'layer {{ name: "bn" type: "BatchNorm" bottom: "x" top: "bn" {params} }}')
    ran = lab.run("upgrade", "old.prototxt", "new.prototxt")
    assert ran.out == "new.prototxt: net of 1 layer, upgraded from learning rates of BatchNorm.\n"
    made = schema.read("new.prototxt", "NetParameter").message.layer[0]
    assert [spec.lr_mult for spec in made.param] == [0, 0, 0]


def test_solver(lab):
    lab.write("old.prototxt", 'net: "n.prototxt" base_lr: 0.1 solver_type: ADAGRAD\n')
    ran = lab.run("upgrade_solver_proto_text", "old.prototxt", "new.prototxt")
    assert ran.out == "new.prototxt: solver of type AdaGrad, upgraded from solver_type.\n"
    assert (lab.folder / "new.prototxt").read_text() == 'base_lr: 0.1\nnet: "n.prototxt"\ntype: "AdaGrad"\n'
    ran = lab.run("upgrade", "new.prototxt", "again.prototxt")
    assert ran.out == "again.prototxt: solver of type AdaGrad, of today's form already.\n"


def test_net_as_bytes(lab):
    """Weights go along, legacy shapes too, and what the schema does not know."""
    net = schema.parse(V1, "NetParameter").message
    weight = net.layers[0].blobs.add(num=1, channels=1, height=3, width=16)
    weight.data.extend(range(48))
    net.layers[0].blobs.add(num=1, channels=1, height=1, width=3).data.extend([1, 2, 3])
    unknown = b"\xfa\xff\x01\x03abc"  # field 4095, of no schema
    (lab.folder / "old.caffemodel").write_bytes(net.SerializeToString() + unknown)
    ran = lab.run("upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel")
    assert ran.out == 'new.caffemodel: net "Old" of 3 layers, upgraded from V1 and input fields.\n'
    raw = (lab.folder / "new.caffemodel").read_bytes()
    assert unknown in raw
    made = schema.message("NetParameter").FromString(raw)
    assert [layer.name for layer in made.layer] == ["input", "ip", "relu"] and not made.layers
    assert list(made.layer[1].blobs[0].data) == list(range(48))
    lab.write("new.prototxt", TODAY)
    loaded = caffe.Net("new.prototxt", caffe.TEST, weights="new.caffemodel")
    assert loaded.params["ip"][1].data.tolist() == [1, 2, 3]
    assert np.array_equal(loaded.params["ip"][0].data, np.arange(48).reshape(3, 16))


@pytest.mark.parametrize(
    "content, text",
    [
        (None, "old: there is no such file; a net or a solver is wanted.\n"),
        (b"\x89HDF\r\n\x1a\n", "old: weights in HDF5 have no old form: there is nothing to upgrade.\n"),
        (b"\x08\x03\x12\x01", "old: this is no NetParameter as bytes, or it is damaged.\n"),
        (b"\x0a\x03abc", "old: no layers are in these bytes: a net is wanted.\n"),
        (b"layer { typ: 3 }", 'old:1:9: "typ" is no field of LayerParameter. Did you mean "type"?\n'),
        (
            b'layers { type: NONE } layer { type: "ReLU" }',
            'old:1:1: a net has "layer" or, in old files, "layers"; this one has 1 of the one and 1 of the other. Write'
            " layer { ... } throughout.\n",
        ),
    ],
)
def test_mistakes(lab, content, text):
    if content is not None:
        (lab.folder / "old").write_bytes(content)
    ran = lab.run("upgrade", "old", "new")
    assert (ran.status, ran.out, ran.err) == (1, "", text)
    assert not (lab.folder / "new").exists()


def test_a_folder(lab):
    ran = lab.run("upgrade", ".", "new")
    assert ran.err == ".: cannot be read: Is a directory; a net or a solver is wanted.\n"

"""The schema's numbers, the reader of prototxt with its places and errors, and options added by dataclasses."""

import csv
import dataclasses
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
from google.protobuf import text_format

from layerforge import options, schema
from layerforge.errors import DefinitionError, LayerForgeError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def own_options():
    """Lets a test add options, and takes them away after it."""
    before = dict(schema._added)
    yield
    schema._added.clear()
    schema._added.update(before)
    schema._classes.clear()


def net(text, file="nets/mine.prototxt"):
    return schema.parse(text, "NetParameter", file)


def error(text, name="NetParameter"):
    with pytest.raises(DefinitionError) as caught:
        schema.parse(text, name, "mine.prototxt")
    return str(caught.value)


# The schema


def caffe_fields():
    with open(GOLDEN / "schema.tsv") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


TYPES = {"float": 2, "double": 1, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13}


def test_every_field_of_caffe_has_its_number_type_and_default():
    wrong = []
    for row in caffe_fields():
        if row["label"] == "value":
            owner, enum = row["message"].split(".")
            values = schema.message(owner).DESCRIPTOR.enum_types_by_name[enum].values_by_name
            if values[row["name"]].number != int(row["number"]):
                wrong.append(row)
            continue
        field = schema.message(row["message"]).DESCRIPTOR.fields_by_name[row["name"]]
        same = field.number == int(row["number"]) and schema.is_repeated(field) == (row["label"] == "repeated")
        if row["type"] in TYPES:
            same = same and field.type == TYPES[row["type"]]
        else:
            same = same and (field.message_type or field.enum_type).name == row["type"]
        if row["default"]:
            default = field.default_value
            if field.enum_type is not None:
                default = field.enum_type.values_by_number[default].name
            elif field.type == TYPES["float"]:
                default, row["default"] = default, float(row["default"])
            elif field.type != TYPES["string"]:
                default = str(default).lower()
            same = same and (
                default == pytest.approx(row["default"]) if isinstance(default, float) else default == row["default"]
            )
        if not same:
            wrong.append(row)
    assert wrong == []


def test_fields_of_our_own_lie_above_caffes():
    caffe = {(row["message"], row["name"]) for row in caffe_fields()}
    caffes = {message for message, _ in caffe}
    raw = {"raw_data_type", "raw_diff_type", "raw_data", "raw_diff"}
    for message in schema._file().message_type:
        if message.name in caffes:
            own = [f for f in message.field if (message.name, f.name) not in caffe and f.name not in raw]
            assert all(f.number >= schema.FORKS for f in own), message.name


def test_nothing_is_required():
    assert all(field.label != field.LABEL_REQUIRED for m in schema._file().message_type for field in m.field)


def test_no_clash_with_another_caffe_proto():
    # Another package's caffe.proto has the same messages in the same process; ours live in a pool of their own.
    from google.protobuf import descriptor_pool

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("layerforge.NetParameter")


# Reading


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("NetParameter", 'name: "a"', {"name": "a"}),
        ("NetParameter", "name: 'it is \"so\"'", {"name": 'it is "so"'}),
        ("NetParameter", 'name: "a" \'b\'\n  "c"', {"name": "abc"}),
        (
            "NetParameter",
            r'name: "tab\t line\n quote\" back\\ \101 \x41 \u00e9 \?"',
            {"name": 'tab\t line\n quote" back\\ A A é ?'},
        ),
        ("NetParameter", r'name: "\303\251\xc3\xa9"', {"name": "éé"}),
        ("NetParameter", 'name: "Größe"', {"name": "Größe"}),
        ("NetParameter", 'name: "a";', {"name": "a"}),
        ("NetParameter", 'name: "a", force_backward: true', {"name": "a", "force_backward": True}),
        ("NetParameter", '# a comment\nname: "#" # another', {"name": "#"}),
        ("NetParameter", "", {}),
        ("NetParameter", 'input: "a" input: "b"', {"input": ["a", "b"]}),
        ("NetParameter", 'input: ["a", "b"] input: []', {"input": ["a", "b"]}),
        ("NetParameter", "input_dim: [1, 0x10, 017, -4]", {"input_dim": [1, 16, 15, -4]}),
        ("NetParameter", "input_dim: -2147483648 input_dim: 2147483647", {"input_dim": [-(2**31), 2**31 - 1]}),
        ("NetParameter", "force_backward: 1", {"force_backward": True}),
        ("NetParameter", "force_backward: t", {"force_backward": True}),
        ("NetParameter", "force_backward: False debug_info: f", {"force_backward": False, "debug_info": False}),
        (
            "FillerParameter",
            "value: 1 min: -1.5 max: 1e3 mean: .5 std: 2.",
            {"value": 1, "min": -1.5, "max": 1e3, "mean": 0.5, "std": 2},
        ),
        ("FillerParameter", "value: 1f min: - 1.5F max: 1e-2f", {"value": 1, "min": -1.5, "max": pytest.approx(0.01)}),
        (
            "FillerParameter",
            "value: inf min: -INF max: Infinity",
            {"value": math.inf, "min": -math.inf, "max": math.inf},
        ),
        ("FillerParameter", "variance_norm: AVERAGE", {"variance_norm": 2}),
        ("FillerParameter", "variance_norm: 2", {"variance_norm": 2}),
        ("DataParameter", "batch_size: 4294967295", {"batch_size": 2**32 - 1}),
        ("SolverParameter", "random_seed: 9223372036854775807", {"random_seed": 2**63 - 1}),
        ("Datum", r'data: "\000\377a" label: -1', {"data": b"\x00\xffa", "label": -1}),
    ],
)
def test_values(name, text, expected):
    message = schema.parse(text, name).message
    found = {field.name: getattr(message, field.name) for field, _ in message.ListFields()}
    assert {key: list(value) if isinstance(expected[key], list) else value for key, value in found.items()} == expected


def test_not_a_number_is_a_float():
    assert math.isnan(schema.parse("value: nan", "FillerParameter").message.value)


@pytest.mark.parametrize(
    "text",
    [
        'layer { name: "a" relu_param { negative_slope: 0.5 } }',
        'layer: { name: "a" relu_param: < negative_slope: 0.5 > }',
        'layer < name: "a", relu_param { negative_slope: 0.5; }; >,',
        'layer: [ { name: "a" relu_param { negative_slope: 0.5 } } ]',
        'layer{name:"a"relu_param{negative_slope:0.5}}',
    ],
)
def test_messages(text):
    assert schema.to_text(net(text).message) == (
        'layer {\n  name: "a"\n  relu_param {\n    negative_slope: 0.5\n  }\n}\n'
    )


def test_an_empty_message_is_there():
    layer = net("layer { relu_param { } }").message.layer[0]
    assert layer.HasField("relu_param") and not layer.HasField("lrn_param")


def fill(message, generator, depth=0):
    """Sets fields of a message by chance, to values whose text is exact."""
    for field in message.DESCRIPTOR.fields:
        if generator.random() < (0.5 if field.message_type is None else 0.3 - 0.1 * depth):
            for _ in range(generator.randint(1, 3) if schema.is_repeated(field) else 1):
                if field.message_type is not None:
                    target = getattr(message, field.name)
                    fill(target.add() if schema.is_repeated(field) else target, generator, depth + 1)
                    if not schema.is_repeated(field):
                        target.SetInParent()
                    continue
                if field.enum_type is not None:
                    value = generator.choice([v.number for v in field.enum_type.values])
                elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
                    value = generator.choice([0.0, -1.5, 2.0**-20, 3e7, float("inf")])
                elif field.type == field.TYPE_BOOL:
                    value = generator.random() < 0.5
                elif field.type == field.TYPE_STRING:
                    value = "".join(generator.choices("ab \t\n\"'\\é{}#:", k=8))
                elif field.type == field.TYPE_BYTES:
                    value = bytes(generator.choices(range(256), k=8))
                else:
                    value = generator.randint(0, 2**31 - 1)
                if schema.is_repeated(field):
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["NetParameter", "SolverParameter"])
def test_what_protobuf_prints_is_read_back(name, seed):
    message = schema.message(name)()
    fill(message, random.Random(seed))
    text = schema.to_text(message)
    assert schema.parse(text, name).message == message
    assert text_format.Parse(text, schema.message(name)()) == message
    flat = text_format.MessageToString(
        message, as_one_line=True, pointy_brackets=True, use_short_repeated_primitives=True
    )
    assert schema.parse(flat, name).message == message


def test_a_long_net_is_read_quickly():
    text = "".join(
        f'layer {{\n  name: "conv{i}"\n  type: "Convolution"\n  bottom: "conv{i - 1}"\n  top: "conv{i}"\n'
        f"  convolution_param {{\n    num_output: 64\n    kernel_size: 3\n    pad: 1\n    bias_term: false\n  }}\n}}\n"
        for i in range(500)
    )
    schema.parse(text, "NetParameter")
    start = time.perf_counter()
    schema.parse(text, "NetParameter")
    # 20 ms where this was written; the bound leaves room for a busy machine.
    assert time.perf_counter() - start < 0.3


# Errors


@pytest.mark.parametrize(
    "text, expected",
    [
        # Unknown fields
        (
            "layer {\n  convolution_param {\n    kernal_size: 3\n  }\n}",
            'mine.prototxt:3:5: "kernal_size" is no field of ConvolutionParameter. Did you mean "kernel_size"?',
        ),
        ("foo: 1", 'mine.prototxt:1:1: "foo" is no field of NetParameter.'),
        (
            'layer { quux_param { a: 1 b { c: "}" } } name: "x" }  # and no more',
            'mine.prototxt:1:9: "quux_param" is no field of LayerParameter.'
            " The options of layers of your own come in with --import.",
        ),
        (
            "layer { poling_param { } }",
            'mine.prototxt:1:9: "poling_param" is no field of LayerParameter. Did you mean "pooling_param"?',
        ),
        (
            'layer { relu_param { bottom: "data" } }',
            'mine.prototxt:1:22: "bottom" is no field of ReLUParameter. It belongs to'
            " LayerParameter, outside these braces.",
        ),
        (
            "zzz: [1, 2] yyy: -3, xxx: <> www",
            "\n".join(
                f'mine.prototxt:1:{column}: "{name}" is no field of NetParameter.'
                for column, name in ((1, "zzz"), (13, "yyy"), (22, "xxx"), (30, "www"))
            ),
        ),
        # Values of another type
        (
            'layer { convolution_param { num_output: "20" } }',
            'mine.prototxt:1:41: "num_output" of ConvolutionParameter must be a whole number from 0'
            ' to 4294967295, not "20".',
        ),
        (
            "layer { convolution_param { num_output: -20 } }",
            'mine.prototxt:1:41: "num_output" of ConvolutionParameter must be a whole number from 0'
            " to 4294967295, not -20.",
        ),
        (
            "layer { convolution_param { num_output: 4294967296 } }",
            'mine.prototxt:1:41: "num_output" of ConvolutionParameter must be a whole number from 0 to 4294967295,'
            " not 4294967296.",
        ),
        (
            "layer { convolution_param { num_output: 3.0 } }",
            'mine.prototxt:1:41: "num_output" of ConvolutionParameter must be a whole number from 0'
            " to 4294967295, not 3.0.",
        ),
        (
            "layer { convolution_param { num_output { } pad: 1 } }",
            'mine.prototxt:1:40: "num_output" of ConvolutionParameter must be a whole number from 0 to 4294967295,'
            " not a { } block.",
        ),
        (
            "input_dim: 2147483648",
            'mine.prototxt:1:12: "input_dim" of NetParameter must be a whole number from -2147483648 to 2147483647,'
            " not 2147483648.",
        ),
        (
            "input_dim: 3px",
            'mine.prototxt:1:12: "input_dim" of NetParameter must be a whole number from -2147483648'
            " to 2147483647, not 3px.",
        ),
        (
            "input_shape { dim: $(batch)s }",
            'mine.prototxt:1:20: "dim" of BlobShape must be a whole number, not $(batch)s.',
        ),
        (
            "layer { loss_weight: many }",
            'mine.prototxt:1:22: "loss_weight" of LayerParameter must be a number, not many.',
        ),
        (
            "force_backward: yes",
            'mine.prototxt:1:17: "force_backward" of NetParameter must be true or false, not yes.',
        ),
        (
            "layer { type: Convolution }",
            'mine.prototxt:1:15: "type" of LayerParameter must be text in quotation marks, not Convolution.'
            ' Write "Convolution".',
        ),
        ("name: 5", 'mine.prototxt:1:7: "name" of NetParameter must be text in quotation marks, not 5.'),
        (
            "layer { pooling_param { pool: AVG } }",
            'mine.prototxt:1:31: "pool" of PoolingParameter must be MAX, AVE or STOCHASTIC, not AVG.'
            ' Did you mean "AVE"?',
        ),
        (
            "layer { pooling_param { pool: 3 } }",
            'mine.prototxt:1:31: "pool" of PoolingParameter must be MAX, AVE or STOCHASTIC, not 3.',
        ),
        (
            'layer { pooling_param { pool: "MAX" } }',
            'mine.prototxt:1:31: "pool" of PoolingParameter must be MAX, AVE or STOCHASTIC, not "MAX".'
            " Write MAX, without quotation marks.",
        ),
        (
            "layer { relu_param: 0.1 }",
            'mine.prototxt:1:21: "relu_param" of LayerParameter must be relu_param { ... }, not 0.1.',
        ),
        (
            "layer { relu_param { negative_slope: [1] } }",
            'mine.prototxt:1:38: "negative_slope" of ReLUParameter takes one value, not a list.',
        ),
        # Twice
        (
            'name: "a"\nname: "b"',
            'mine.prototxt:2:1: Non-repeated field "name" of NetParameter is specified multiple'
            " times, first on line 1.",
        ),
        (
            "layer {\n relu_param { }\n relu_param { }\n}",
            'mine.prototxt:3:2: Non-repeated field "relu_param" of LayerParameter is specified multiple times,'
            " first on line 2.",
        ),
        # Syntax
        ('name "a"', 'mine.prototxt:1:1: ":" is missing after "name".'),
        ("name:", 'mine.prototxt:1:5: "name" of NetParameter has no value.'),
        ('layer {\n  name:\n  type: "ReLU"\n}', 'mine.prototxt:2:7: "name" of LayerParameter has no value.'),
        ("layer { relu_param }", 'mine.prototxt:1:9: "relu_param" of LayerParameter has no value.'),
        ('name: "a', "mine.prototxt:1:7: this text is not closed on its line."),
        ('name: "a\nforce_backward: true', "mine.prototxt:1:7: this text is not closed on its line."),
        (
            r'layer { data_param { source: "C:\data\train" } }',
            r"mine.prototxt:1:30: \d stands for nothing in a string; a backslash itself is written \\.",
        ),
        (r'name: "\377"', 'mine.prototxt:1:7: "name" of NetParameter must be text in UTF-8.'),
        (
            "layer {\n  relu_param {\n    negative_slope: 1\n",
            "\n".join(
                ['mine.prototxt:1:7: this "{" is never closed.', 'mine.prototxt:2:14: this "{" is never closed.']
            ),
        ),
        ("layer { }\n}", 'mine.prototxt:2:1: this "}" closes nothing.'),
        ("layer {\n>", 'mine.prototxt:2:1: "}" is missing here: this ">" does not fit line 1.'),
        ("layer <\n}", 'mine.prototxt:2:1: ">" is missing here: this "}" does not fit line 1.'),
        (
            'layer {\n  name: "a"\n  relu_param {\n}\nlayer { name: "b" }\nlayer { foo: 1 }',
            'mine.prototxt:5:1: "layer" starts here, but the "{" of line 1 is still open.\n'
            'mine.prototxt:6:9: "foo" is no field of LayerParameter.',
        ),
        (
            '128 name: "x"\nforce_backward: true',
            "mine.prototxt:1:1: the name of a field is expected here, not 128.",
        ),
        (", force_backward: true", 'mine.prototxt:1:1: this "," separates nothing.'),
        ("input_dim: [1 2]", 'mine.prototxt:1:15: "," or "]" is expected here, not 2.'),
        (
            "input_dim: [1",
            'mine.prototxt:1:14: "," or "]" is expected here, not the end of the text.',
        ),
        (
            "input_dim: 1, 2 name: 'n'",
            'mine.prototxt:1:15: values of "input_dim" stand in brackets: input_dim: [a, b].',
        ),
        (
            'force_backward: 0, -1, "a" name: "n", foo: 3',
            'mine.prototxt:1:20: "force_backward" of NetParameter takes one value, not a list.\n'
            'mine.prototxt:1:39: "foo" is no field of NetParameter.',
        ),
        # Templates
        (
            "input_shape { dim: $#batch_size#$ dim: 3 }\nforce_backward: ${force}\n$#layers#$ name: 'n'",
            "mine.prototxt:1:20: $#batch_size#$ is to be filled in: this file is a template. Write a whole number in"
            " its place.\n"
            "mine.prototxt:2:17: ${force} is to be filled in: this file is a template. Write true or false in its"
            " place.\n"
            "mine.prototxt:3:1: $#layers#$ is to be filled in: this file is a template. Write fields in its place.",
        ),
        (
            "state { level: {{ level }} } name: @name@ input_dim: %(n)d input_dim: $n",
            "mine.prototxt:1:16: {{ level }} is to be filled in: this file is a template. Write a whole number from"
            " -2147483648 to 2147483647 in its place.\n"
            "mine.prototxt:1:36: @name@ is to be filled in: this file is a template. Write text in quotation marks in"
            " its place.\n"
            "mine.prototxt:1:54: %(n)d is to be filled in: this file is a template. Write a whole number from"
            " -2147483648 to 2147483647 in its place.\n"
            "mine.prototxt:1:71: $n is to be filled in: this file is a template. Write a whole number from -2147483648"
            " to 2147483647 in its place.",
        ),
        ("input_dim: [,]", 'mine.prototxt:1:12: "input_dim" of NetParameter has no value.'),
        # Several at once, in the order of the file
        (
            "layer {\n  bias: 1\n  type: ReLU\n  top: 7\n}\nlayers { foo { bar: 1 } }",
            'mine.prototxt:2:3: "bias" is no field of LayerParameter.\n'
            'mine.prototxt:3:9: "type" of LayerParameter must be text in quotation marks, not ReLU. Write "ReLU".\n'
            'mine.prototxt:4:8: "top" of LayerParameter must be text in quotation marks, not 7.\n'
            'mine.prototxt:6:10: "foo" is no field of V1LayerParameter.',
        ),
        # Another file
        (
            "base_lr: 0.1 max_iter: 5",
            "mine.prototxt: this is a solver (SolverParameter); a net (NetParameter) is wanted.",
        ),
        ("na\0me", "mine.prototxt: this is no text, but bytes; a net is wanted."),
    ],
)
def test_errors(text, expected):
    assert error(text) == expected


def test_text_changed_by_chance():
    generator = random.Random(3)
    pieces = [
        "{",
        "}",
        "<",
        ">",
        ":",
        "[",
        "]",
        '"',
        "'",
        ",",
        "-",
        "#",
        "\\",
        "layer",
        "1",
        "0x",
        "\n",
        "name",
        "$",
        "ü",
        "",
    ]
    read = 0
    for _ in range(1000):
        at = generator.randrange(len(TEXT))
        text = TEXT[:at] + generator.choice(pieces) + TEXT[at + generator.choice([0, 1, 5]) :]
        try:
            message = net(text).message
        except DefinitionError:
            continue
        assert message == text_format.Parse(text, schema.message("NetParameter")())
        read += 1
    assert read > 100


def test_all_errors_are_there_one_by_one():
    with pytest.raises(DefinitionError) as caught:
        net("a: 1\nb: 2")
    assert [(e.place.line, e.message) for e in caught.value.errors] == [
        (1, '"a" is no field of NetParameter.'),
        (2, '"b" is no field of NetParameter.'),
    ]


def test_too_many_errors():
    lines = error("1\n" * 60).splitlines()
    assert len(lines) == 51
    assert lines[-2:] == [
        "mine.prototxt:50:1: the name of a field is expected here, not 1.",
        "mine.prototxt: there are too many mistakes: the rest was not read.",
    ]


def test_a_net_is_no_solver():
    assert error('layer { name: "a" }', "SolverParameter") == (
        "mine.prototxt: this is a net (NetParameter); a solver (SolverParameter) is wanted."
    )


def test_text_without_a_file():
    with pytest.raises(DefinitionError) as caught:
        schema.parse("foo: 1", "BlobShape")
    assert str(caught.value) == '<text>:1:1: "foo" is no field of BlobShape.'


# Files


def test_read(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"\xef\xbb\xbf# a comment in Latin-1: \xe9\r\nname: 'x'\r\nlayer { top: 'y' }\r\n")
    definition = schema.read(path, "NetParameter")
    assert definition.message.name == "x"
    assert str(definition.place("layer", 0, "top")) == f"{path}:3:9"
    assert definition.file == str(path)


@pytest.mark.parametrize(
    "content, expected",
    [
        (None, "there is no such file; a net is wanted."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "this is a pointer of Git LFS, not the file. Run: git lfs pull",
        ),
        (b"\n\x04LeNet\x00", "this is no text, but bytes; a net is wanted."),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, expected):
    path = tmp_path / "net.prototxt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DefinitionError) as caught:
        schema.read(path, "NetParameter")
    assert str(caught.value) == f"{path}: {expected}"


def test_a_folder_cannot_be_read(tmp_path):
    with pytest.raises(DefinitionError) as caught:
        schema.read(tmp_path, "NetParameter")
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory."


def test_latin_1_in_a_string(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'name: "caf\xe9"')
    with pytest.raises(DefinitionError) as caught:
        schema.read(path, "NetParameter")
    assert str(caught.value) == f'{path}:1:7: "name" of NetParameter must be text in UTF-8.'


# Places

TEXT = """\
name: "LeNet"
layer {
  name: "conv1"  bottom: "data"  bottom: "more"
  param { lr_mult: 1 }
  param { lr_mult: 2 }
  convolution_param {
    num_output: 20
    kernel_size: [5,
                  3]
  }
}
layer { name: "relu1" }
"""


@pytest.mark.parametrize(
    "path, expected",
    [
        ((), "nets/mine.prototxt"),
        (("name",), "nets/mine.prototxt:1:1"),
        (("force_backward",), "nets/mine.prototxt"),
        (("layer",), "nets/mine.prototxt:2:1"),
        (("layer", 1), "nets/mine.prototxt:12:1"),
        (("layer", 1, "name"), "nets/mine.prototxt:12:9"),
        (("layer", 0, "bottom", 1), "nets/mine.prototxt:3:34"),
        (("layer", 0, "bottom"), "nets/mine.prototxt:3:18"),
        (("layer", 0, "param", 1, "lr_mult"), "nets/mine.prototxt:5:11"),
        (("layer", 0, "param", 1, "decay_mult"), "nets/mine.prototxt:5:3"),
        (("layer", 0, "convolution_param", "num_output"), "nets/mine.prototxt:7:5"),
        (("layer", 0, "convolution_param", "kernel_size", 1), "nets/mine.prototxt:9:19"),
        (("layer", 0, "convolution_param", "group"), "nets/mine.prototxt:6:3"),
        (("layer", 0, "pooling_param", "kernel_size"), "nets/mine.prototxt:2:1"),
    ],
)
def test_places(path, expected):
    assert str(net(TEXT).place(*path)) == expected


def test_children():
    definition = net(TEXT)
    conv, relu = definition.children("layer")
    assert (conv.message.name, relu.message.name) == ("conv1", "relu1")
    assert str(conv.place()) == "nets/mine.prototxt:2:1"
    assert str(relu.place("name")) == "nets/mine.prototxt:12:9"
    options = conv.child("convolution_param")
    assert str(options.place("num_output")) == "nets/mine.prototxt:7:5"
    # What was not written is where the message around it is.
    assert str(relu.child("relu_param").place("negative_slope")) == "nets/mine.prototxt:12:1"
    assert repr(conv) == "<LayerParameter from nets/mine.prototxt>"


def test_with_children_and_replace():
    definition = net(TEXT)
    conv, relu = definition.children("layer")
    made = schema.message("LayerParameter")(name="split", type="Split")
    other = definition.with_children("layer", [relu, conv.replace(made)], without=["name"])
    assert [layer.name for layer in other.message.layer] == ["relu1", "split"]
    assert str(other.place("layer", 1, "bottom", 1)) == "nets/mine.prototxt:3:34"
    assert not other.message.HasField("name") and str(other.place("name")) == "nets/mine.prototxt"
    assert definition.message.name == "LeNet" and len(definition.message.layer) == 2
    assert definition.message.layer[0].name == "conv1"


def test_a_definition_made_in_code():
    message = schema.message("NetParameter")()
    message.layer.add(name="a")
    definition = schema.Definition.of(message)
    assert str(definition.place("layer", 0, "name")) == "<text>"
    assert str(definition.children("layer")[0].place()) == "<text>"
    assert str(schema.Definition.of(message, "made.caffemodel").place("name")) == "made.caffemodel"
    assert repr(definition) == "<NetParameter from code>"


def test_bytes_keep_what_the_schema_does_not_know():
    raw = b"\x0a\x01x" + b"\xfa\xff\x3f\x02hi"
    definition = schema.from_bytes(raw, "NetParameter", "net.bin")
    assert definition.message.name == "x"
    assert definition.message.SerializeToString() == raw
    with pytest.raises(LayerForgeError) as caught:
        schema.from_bytes(b"\x0a\x7f", "NetParameter", "net.bin")
    assert str(caught.value) == "net.bin: this is no NetParameter as bytes, or it is damaged."


def test_what_only_forks_have():
    definition = net(
        'engine: "MKLDNN"\nlayer {\n  pooling_param { ceil_mode: false engine: CAFFE }\n  relu_param'
        " { engine: MKL2017 }\n}"
    )
    assert [f"{place}: {name} of {owner}" for owner, name, place in schema.fork_fields(definition)] == [
        "nets/mine.prototxt:3:19: ceil_mode of PoolingParameter",
        "nets/mine.prototxt:4:16: engine of ReLUParameter",
        "nets/mine.prototxt:1:1: engine of NetParameter",
    ]


# Options of added layers


@dataclasses.dataclass
class Inner:
    size: int = 3


@dataclasses.dataclass
class FocalOptions:
    gamma: float = 2.0
    top_k: int = 1
    smooth: bool = True
    note: str = "none"
    reduction: Literal["mean", "sum"] = "mean"
    other: Literal["sum", "mean"] = "sum"
    weights: list[float] = dataclasses.field(default_factory=list)
    kinds: list[Literal["a", "b"]] = dataclasses.field(default_factory=list)
    inner: Inner = dataclasses.field(default_factory=Inner)
    inners: list[Inner] = dataclasses.field(default_factory=list)
    filler: schema.Filler | None = None
    threshold: float | None = None
    moved: int = dataclasses.field(default=0, metadata={"number": 40})


FOCAL = """\
layer {
  type: "Focal"
  focal_param {
    gamma: 1.5 top_k: 5000000000 smooth: false reduction: sum weights: [1, 2] kinds: b kinds: a
    inner { size: 5 } inners { } inners { size: 7 } filler { type: "msra" } moved: 4
  }
}
"""


def test_options_from_a_dataclass(own_options):
    schema.add_options("focal_param", FocalOptions)
    definition = net(FOCAL)
    message = definition.message.layer[0].focal_param
    assert schema.to_dataclass(FocalOptions, message) == FocalOptions(
        gamma=1.5,
        top_k=5000000000,
        smooth=False,
        reduction="sum",
        weights=[1, 2],
        kinds=["b", "a"],
        inner=Inner(5),
        inners=[Inner(3), Inner(7)],
        filler=message.filler,
        moved=4,
    )
    assert message.filler.type == "msra"
    assert str(definition.place("layer", 0, "focal_param", "inners", 1, "size")) == "nets/mine.prototxt:5:43"
    assert message.DESCRIPTOR.name == "FocalParameter"
    assert message.DESCRIPTOR.fields_by_name["moved"].number == 40
    assert schema.parse(schema.to_text(definition.message), "NetParameter").message == definition.message
    assert type(definition.message).FromString(definition.message.SerializeToString()) == definition.message


def test_defaults_of_options(own_options):
    schema.add_options("focal_param", FocalOptions)
    message = schema.message("LayerParameter")().focal_param
    assert (message.gamma, message.top_k, message.smooth, message.note) == (2.0, 1, True, "none")
    assert schema.to_dataclass(FocalOptions, message) == FocalOptions()


def test_errors_in_options(own_options):
    schema.add_options("focal_param", FocalOptions)
    assert error("layer { focal_param {\n gama: 1\n reduction: max\n top_k: 1.5 } }") == (
        'mine.prototxt:2:2: "gama" is no field of FocalParameter. Did you mean "gamma"?\n'
        'mine.prototxt:3:13: "reduction" of FocalParameter must be mean or sum, not max.\n'
        'mine.prototxt:4:9: "top_k" of FocalParameter must be a whole number, not 1.5.'
    )


def test_messages_of_an_older_pool_are_still_usable(own_options):
    old = net('layer { name: "a" }')
    schema.add_options("focal_param", FocalOptions)
    assert not isinstance(old.message, schema.message("NetParameter"))
    assert old.message.layer[0].name == "a"
    new = old.today()
    new.message.layer[0].focal_param.gamma = 3
    assert str(new.place("layer", 0, "name")) == "nets/mine.prototxt:1:9"
    assert schema.Definition.of(old.message.layer[0]).message.focal_param.gamma == 2.0
    assert schema.current(new.message) is new.message


def test_options_saved_without_their_layer_are_kept(own_options):
    before = schema.message("NetParameter")
    schema.add_options("focal_param", FocalOptions)
    raw = net("layer { focal_param { gamma: 1.5 } }").message.SerializeToString()
    assert before.FromString(raw).SerializeToString() == raw


def test_the_number_follows_from_the_name_in_every_process():
    assert options.derived_number("focal_param") == 395305450
    code = "from layerforge import options; print(options.derived_number('focal_param'))"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout == "395305450\n"


def test_a_number_of_ones_own(own_options):
    schema.add_options("focal_param", FocalOptions, 8266711)
    assert schema.message("LayerParameter").DESCRIPTOR.fields_by_name["focal_param"].number == 8266711


def test_adding_the_same_class_again_replaces_it(own_options):
    schema.add_options("focal_param", FocalOptions)
    old = schema.message("LayerParameter")
    schema.add_options("focal_param", FocalOptions, 300000)
    assert schema.message("LayerParameter") is not old
    assert schema.message("LayerParameter").DESCRIPTOR.fields_by_name["focal_param"].number == 300000


def test_two_options_of_one_class_name(own_options):
    schema.add_options("focal_param", dataclasses.make_dataclass("ReLUParameter", [("a", int, 1)]))
    schema.add_options("focal_loss_param", dataclasses.make_dataclass("FocalParameter", [("b", int, 1)]))
    layer = schema.message("LayerParameter").DESCRIPTOR.fields_by_name
    assert layer["focal_param"].message_type.name == "FocalParameter"
    assert layer["focal_loss_param"].message_type.name == "FocalLossParameter"


def bad(*fields):
    made = dataclasses.make_dataclass("Bad", fields)
    made.__module__ = "mine"
    return made


@pytest.mark.parametrize(
    "field, fields, number, expected",
    [
        ("relu_param", [], None, '"relu_param" is a field of LayerParameter already. Give mine.Bad another field.'),
        ("name", [], None, '"name" is a field of LayerParameter already. Give mine.Bad another field.'),
        (
            "focal-param",
            [],
            None,
            '"focal-param" cannot name a field: letters, digits and _ are allowed, and no digit first.',
        ),
        (
            "focal_param",
            [],
            106,
            '"focal_param" and "convolution_param" of LayerParameter share number 106. Give it another, or none.',
        ),
        (
            "focal_param",
            [],
            19500,
            '"focal_param" cannot have number 19500: it must be from 1 to 536870911, but not 19000 to 19999.',
        ),
        (
            "focal_param",
            [("x", bytes)],
            None,
            'mine.Bad.x cannot be an option: its type must be float, int, bool, str, Literal["a", "b"], a dataclass,'
            " Filler, or a list of one of these, not bytes.",
        ),
        (
            "focal_param",
            [("x", Literal["a b"])],
            None,
            'mine.Bad.x cannot be an option: its type must be float, int, bool, str, Literal["a", "b"], a dataclass,'
            " Filler, or a list of one of these, not typing.Literal['a b'].",
        ),
        ("focal_param", [("x", int, 0.5)], None, "mine.Bad.x has the default 0.5, which its type does not allow."),
        (
            "focal_param",
            [("x", Literal["a"], "b")],
            None,
            "mine.Bad.x has the default 'b', which its type does not allow.",
        ),
        (
            "focal_param",
            [("x", int, dataclasses.field(metadata={"number": 2})), ("y", int)],
            None,
            "mine.Bad gives two of its fields one number: 2, 2.",
        ),
    ],
)
def test_options_that_cannot_be_added(own_options, field, fields, number, expected):
    with pytest.raises(DefinitionError) as caught:
        schema.add_options(field, bad(*fields), number)
    assert str(caught.value) == expected
    assert field in schema.message("LayerParameter").DESCRIPTOR.fields_by_name or field.startswith("focal")


def test_a_field_of_two_layers(own_options):
    schema.add_options("focal_param", FocalOptions)
    with pytest.raises(DefinitionError) as caught:
        schema.add_options("focal_param", bad(("x", int)))
    assert str(caught.value) == (f'"focal_param" holds {__name__}.FocalOptions already. Give mine.Bad another field.')


def test_numbers_that_collide(own_options, monkeypatch):
    monkeypatch.setattr(options, "derived_number", lambda field: 300001)
    schema.add_options("first_param", bad(("x", int)))
    with pytest.raises(DefinitionError) as caught:
        schema.add_options("second_param", bad(("x", int)))
    assert str(caught.value) == (
        '"second_param" and "first_param" of LayerParameter share number 300001. Give one of them a number of its own:'
        " `number = 200001` in its class of options."
    )


def test_a_package_that_is_not_built(monkeypatch):
    monkeypatch.setattr(schema, "DESCRIPTORS", Path("/nowhere/layerforge.desc"))
    schema._file.cache_clear()
    try:
        with pytest.raises(LayerForgeError) as caught:
            schema._file()
    finally:
        schema._file.cache_clear()
    assert str(caught.value) == ("/nowhere/layerforge.desc is missing: the package is not built. Run: pip install -e .")

"""Definitions as the command line reads them."""

import pytest

from layerforge import schema
from layerforge.cli import definitions
from layerforge.errors import DefinitionError

SOLVER = 'net: "a.prototxt"\nbase_lr: 0.01\nstepvalue: 5\nstepvalue: 9\ntrain_state { stage: "a" }\n'


def change(*settings: str) -> schema.Definition:
    definition = schema.parse(SOLVER, "SolverParameter", "s.prototxt")
    for setting in settings:
        definitions.change(definition, setting)
    return definition


@pytest.mark.parametrize(
    "setting, field, expected",
    [
        ("base_lr=0.02", "base_lr", 0.02),
        ("base_lr=-1e-3", "base_lr", -1e-3),
        ("lr_policy=step", "lr_policy", "step"),
        ('lr_policy="step"', "lr_policy", "step"),
        ("net=nets/my net.prototxt", "net", "nets/my net.prototxt"),
        (r"net=C:\nets", "net", r"C:\nets"),
        ("net=", "net", ""),
        ("stepvalue=100,200", "stepvalue", [100, 200]),
        ("stepvalue=[100, 200]", "stepvalue", [100, 200]),
        ("stepvalue=7", "stepvalue", [7]),
        ("weights=a.caffemodel,b.caffemodel", "weights", ["a.caffemodel", "b.caffemodel"]),
        ("test_compute_loss=true", "test_compute_loss", True),
        ("snapshot_format=HDF5", "snapshot_format", 0),
    ],
)
def test_set(setting, field, expected):
    value = getattr(change(setting).message, field)
    if isinstance(expected, float):
        assert value == pytest.approx(expected)
    else:
        assert (list(value) if isinstance(expected, list) else value) == expected


def test_set_within_a_message():
    state = change("train_state.level=3").message.train_state
    assert (state.level, list(state.stage)) == (3, ["a"])


@pytest.mark.parametrize(
    "setting, text",
    [
        ("base_lr", "--set base_lr: write KEY=VALUE, as in --set base_lr=0.01"),
        ("bas_lr=1", '--set bas_lr=1: "bas_lr" is no field of SolverParameter. Did you mean "base_lr"?'),
        ("base_lr=fast", '--set base_lr=fast: "base_lr" of SolverParameter must be a number, not fast.'),
        ("max_iter=1.5", None),
        ("train_state.lvl=3", '--set train_state.lvl=3: "lvl" is no field of NetState. Did you mean "level"?'),
        ("base_lr.x=3", '--set base_lr.x=3: "base_lr" has no fields of its own'),
    ],
)
def test_set_what_cannot_be(setting, text):
    with pytest.raises(DefinitionError) as caught:
        change(setting)
    if text is None:
        text = (
            f'--set {setting}: "max_iter" of SolverParameter must be a whole number from -2147483648 to 2147483647,'
            " not 1.5."
        )
    assert str(caught.value) == text


def test_every_setting_that_cannot_be_is_told(tmp_path):
    (tmp_path / "s.prototxt").write_text(SOLVER)
    with pytest.raises(DefinitionError) as caught:
        definitions.read_solver(str(tmp_path / "s.prototxt"), ["gama=1", "powr=2"])
    assert str(caught.value).splitlines() == [
        '--set gama=1: "gama" is no field of SolverParameter. Did you mean "gamma"?',
        '--set powr=2: "powr" is no field of SolverParameter. Did you mean "power"?',
    ]


def test_the_place_of_what_was_set():
    definition = change("base_lr=0.02", "train_state.level=3", "iter_size=0")
    assert str(definition.place("base_lr")) == "--set base_lr=0.02"
    assert str(definition.place("iter_size")) == "--set iter_size=0"
    assert str(definition.place("train_state", 0, "level")) == "--set train_state.level=3"
    assert str(definition.place("train_state", 0, "stage", 0)) == "s.prototxt:5:15"
    assert str(definition.place("stepvalue", 1)) == "s.prototxt:4:1"


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.prototxt", SOLVER, "SolverParameter"),
        ("solver.prototxt", 'name: "LeNet"\nlayer { name: "x" }', "NetParameter"),
        ("solver.prototxt", 'lyer { name: "x" }\nnam: "a"', "SolverParameter"),
        ("a.prototxt", "max_itr: 3\nbase_lr: 1\nnett: 1", "SolverParameter"),
        ("solver.prototxt", "", "SolverParameter"),
        ("a.prototxt", "", "NetParameter"),
    ],
)
def test_kind(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert definitions.kind(str(tmp_path / name)) == expected


def test_kind_of_no_file(tmp_path):
    with pytest.raises(DefinitionError) as caught:
        definitions.kind(str(tmp_path / "a.prototxt"))
    assert str(caught.value) == f"{tmp_path}/a.prototxt: there is no such file; a net or a solver is wanted."


NET = """
layer { name: "a" type: "Data" top: "x" data_param { source: "s" batch_size: 64 } }
layer { name: "b" type: "Input" top: "y" top: "z" input_param { shape { dim: 1 dim: 3 } shape { dim: 2 dim: 4 } } }
layer { name: "c" type: "DummyData" top: "w" dummy_data_param { num: 5 channels: 2 height: 1 width: 1 } }
layer { name: "d" type: "Reshape" bottom: "w" top: "v" reshape_param { shape { dim: 7 dim: -1 } } }
"""


def test_set_batch():
    net = schema.parse(NET, "NetParameter")
    definitions.set_batch(net, 9)
    a, b, c, d = net.message.layer
    assert a.data_param.batch_size == 9
    assert [list(shape.dim) for shape in b.input_param.shape] == [[9, 3], [9, 4]]
    assert list(c.dummy_data_param.num) == [9]
    assert list(d.reshape_param.shape.dim) == [7, -1], "only sources have a batch size"


@pytest.mark.parametrize("field", ["net", "train_net"])
def test_the_net_of_a_solver(tmp_path, field):
    (tmp_path / "net.prototxt").write_text('name: "N"' + NET)
    (tmp_path / "s.prototxt").write_text(f'{field}: "net.prototxt"\nbase_lr: 1')
    assert definitions.read_net(str(tmp_path / "s.prototxt")).message.name == "N"


@pytest.mark.parametrize("field", ["net_param", "train_net_param"])
def test_the_net_within_a_solver(tmp_path, field):
    (tmp_path / "s.prototxt").write_text(f'{field} {{ name: "N" }}\nbase_lr: 1')
    assert definitions.read_net(str(tmp_path / "s.prototxt")).message.name == "N"


@pytest.mark.parametrize(
    "solver, text",
    [
        ("base_lr: 1", "{folder}/s.prototxt: this solver names no net"),
        ('base_lr: 1\nnet: "none.prototxt"', '{folder}/s.prototxt:2:1: there is no net file "none.prototxt"'),
        (
            'net: "nets/s.prototxt"',
            '{folder}/s.prototxt:1:1: there is no net file "nets/s.prototxt", here or beside {folder}/s.prototxt; '
            'there is a "s.prototxt" beside it: name that, or run where "nets/s.prototxt" is',
        ),
    ],
)
def test_a_solver_without_a_net(tmp_path, solver, text):
    (tmp_path / "s.prototxt").write_text(solver)
    with pytest.raises(DefinitionError) as caught:
        definitions.read_net(str(tmp_path / "s.prototxt"))
    assert str(caught.value) == text.format(folder=tmp_path)

"""Which layers take part, who reads what, who runs backward: Caffe's rules, on text alone."""

import pytest

from layerforge import graph, schema
from layerforge.errors import Problems
from layerforge.graph import Links, State

TRAIN, TEST = 0, 1


def layers(text):
    return schema.parse(text, "NetParameter", "net.prototxt").children("layer")


def names(definitions):
    return [one.message.name for one in definitions]


def errors(problems):
    return [str(error) for error in problems.errors]


# Filtering by state.

MNIST = """
layer { name: "mnist" type: "Data" top: "data" include { phase: TRAIN } }
layer { name: "mnist_test" type: "Data" top: "data" include { phase: TEST } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" top: "loss" }
"""


@pytest.mark.parametrize("phase, left_out", [(TRAIN, ["mnist_test", "accuracy"]), (TEST, ["mnist"])])
def test_filter_by_phase(phase, left_out):
    problems = Problems()
    every = layers(MNIST)
    kept = graph.filter_layers(every, State(phase), problems)
    assert names(kept) == [name for name in names(every) if name not in left_out]
    assert problems.errors == []


@pytest.mark.parametrize(
    "rules, state, kept",
    [
        ("", State(TRAIN), True),
        # One rule.
        ("include { phase: TRAIN }", State(TRAIN), True),
        ("include { phase: TRAIN }", State(TEST), False),
        ("exclude { phase: TRAIN }", State(TRAIN), False),
        ("exclude { phase: TRAIN }", State(TEST), True),
        ('include { stage: "mystage" }', State(TRAIN), False),
        ('include { stage: "mystage" }', State(TRAIN, stages=("mystage",)), True),
        ('include { stage: "mystage" }', State(TRAIN, stages=("other", "mystage")), True),
        ('exclude { stage: "mystage" }', State(TRAIN), True),
        ('exclude { stage: "mystage" }', State(TRAIN, stages=("mystage",)), False),
        # All stages of a rule must be there.
        ('include { stage: "a" stage: "b" }', State(TRAIN, stages=("a",)), False),
        ('include { stage: "a" stage: "b" }', State(TRAIN, stages=("a", "b")), True),
        ('exclude { stage: "a" stage: "b" }', State(TRAIN, stages=("a",)), True),
        ('exclude { stage: "a" stage: "b" }', State(TRAIN, stages=("b", "a", "c")), False),
        # One rule of several is enough.
        ('include { stage: "a" } include { stage: "b" }', State(TRAIN, stages=("b",)), True),
        ('include { stage: "a" } include { stage: "b" }', State(TRAIN, stages=("c",)), False),
        ('exclude { stage: "a" } exclude { stage: "b" }', State(TRAIN, stages=("b",)), False),
        ('exclude { stage: "a" } exclude { stage: "b" }', State(TRAIN, stages=("c",)), True),
        # not_stage.
        ('include { not_stage: "a" }', State(TRAIN), True),
        ('include { not_stage: "a" }', State(TRAIN, stages=("a",)), False),
        ('include { not_stage: "a" not_stage: "b" }', State(TRAIN, stages=("b",)), False),
        ('exclude { not_stage: "a" }', State(TRAIN), False),
        ('exclude { not_stage: "a" }', State(TRAIN, stages=("a",)), True),
        ('include { stage: "a" not_stage: "b" }', State(TRAIN, stages=("a", "b")), False),
        # Levels, both bounds included.
        ("include { min_level: 3 }", State(TRAIN, 2), False),
        ("include { min_level: 3 }", State(TRAIN, 3), True),
        ("include { max_level: -3 }", State(TRAIN, -3), True),
        ("include { max_level: -3 }", State(TRAIN, -2), False),
        ("include { min_level: -1 max_level: 1 }", State(TRAIN, 0), True),
        ("include { min_level: -1 max_level: 1 }", State(TRAIN, 2), False),
        ("exclude { min_level: 3 }", State(TRAIN, 3), False),
        ("exclude { max_level: 3 }", State(TRAIN, 4), True),
        ("include { min_level: 0 }", State(TRAIN, -1), False),
        # All of a rule's conditions.
        ('include { phase: TRAIN stage: "a" min_level: 1 }', State(TRAIN, 1, ("a",)), True),
        ('include { phase: TRAIN stage: "a" min_level: 1 }', State(TEST, 1, ("a",)), False),
        ('include { phase: TRAIN stage: "a" min_level: 1 }', State(TRAIN, 0, ("a",)), False),
        ('include { phase: TRAIN stage: "a" min_level: 1 }', State(TRAIN, 1), False),
        ("include {}", State(TEST, 7, ("a",)), True),
        ("exclude {}", State(TEST, 7, ("a",)), False),
    ],
)
def test_rules(rules, state, kept):
    found = graph.filter_layers(layers(f'layer {{ name: "x" type: "ReLU" {rules} }}'), state, Problems())
    assert names(found) == (["x"] if kept else [])


def test_both_kinds_of_rules():
    problems = Problems()
    graph.filter_layers(
        layers('layer { name: "x"\n  include { phase: TRAIN }\n  exclude { phase: TEST }\n}'), State(TRAIN), problems
    )
    assert errors(problems) == ['net.prototxt:3:3: layer "x" has both include and exclude rules: keep one kind']


@pytest.mark.parametrize(
    "text, given, expected",
    [
        ("", {}, State(TEST)),
        ("state { phase: TRAIN }", {}, State(TRAIN)),
        ("state { phase: TRAIN level: 2 stage: 'a' }", {}, State(TRAIN, 2, ("a",))),
        ("state { phase: TRAIN level: 2 stage: 'a' }", {"phase": TEST}, State(TEST, 2, ("a",))),
        ("state { level: 2 stage: 'a' }", {"level": 3, "stages": ["b", "a"]}, State(TEST, 3, ("a", "b"))),
        ("", {"phase": TRAIN, "stages": ("b",)}, State(TRAIN, 0, ("b",))),
    ],
)
def test_state(text, given, expected):
    assert graph.net_state(schema.parse(text, "NetParameter").message, **given) == expected


@pytest.mark.parametrize(
    "state, text",
    [
        (State(TRAIN), "TRAIN"),
        (State(TEST, 2), "TEST, level 2"),
        (State(TEST, 0, ("a", "b")), "TEST, stage a, b"),
    ],
)
def test_state_in_words(state, text):
    assert str(state) == text


# Wiring.


def wiring(text, state=None):
    problems = Problems()
    every = layers(text)
    kept = graph.filter_layers(every, state, problems) if state else every
    wrong = graph.check_wiring(kept, state or State(TRAIN), [one for one in every if one not in kept], problems)
    return wrong, errors(problems)


def test_good_wiring():
    assert wiring(MNIST, State(TEST)) == (set(), [])


@pytest.mark.parametrize(
    "text, wrong, expected",
    [
        pytest.param(
            'layer { name: "a" top: "pool4" }\nlayer { name: "b" bottom: "pool5" }',
            {1},
            ['net.prototxt:2:19: layer "b" reads "pool5", which no layer above writes. Did you mean "pool4"?'],
            id="misspelt",
        ),
        pytest.param(
            'layer { name: "a" top: "x" }\nlayer { name: "b" bottom: "something" top: "something" }',
            {1},
            ['net.prototxt:2:19: layer "b" reads "something", which no layer above writes.'],
            id="unlike anything",
        ),
        pytest.param(
            'layer { name: "b" bottom: "x" top: "y" }\nlayer { name: "a" top: "x" }',
            {0},
            [
                'net.prototxt:1:19: layer "b" reads "x", which only layer "a" below writes (net.prototxt:2:1).'
                ' Layers run in the order of the file: move "a" above "b"'
            ],
            id="order",
        ),
        pytest.param(
            'layer { name: "a" bottom: "z" top: "x" }\n'
            'layer { name: "b" bottom: "x" top: "y" }\n'
            'layer { name: "c" bottom: "y" top: "z" }',
            {0},
            ['net.prototxt:1:19: layer "a" reads "z", which depends on it: a -> b -> c -> a is a cycle'],
            id="cycle",
        ),
        pytest.param(
            'layer { name: "a" top: "x" }\n\nlayer { name: "b"\n  top: "x" }',
            {1},
            [
                'net.prototxt:4:3: layer "b" writes "x", which layer "a" already writes (net.prototxt:1:1). Give it a'
                " name of its own, or read the same blob to work in place"
            ],
            id="made twice",
        ),
        pytest.param(
            'layer { name: "a" top: "x"\n top: "x" }',
            {0},
            ['net.prototxt:2:2: layer "a" writes "x" twice: give each top a name'],
            id="made twice by one",
        ),
        pytest.param(
            'layer { name: "a" top: "x" top: "y" }\nlayer { name: "b" bottom: "x" bottom: "y" top: "y" }',
            {1},
            [
                'net.prototxt:2:43: layer "b" writes "y", which layer "a" already writes (net.prototxt:1:1). Give it a'
                " name of its own, or read the same blob to work in place"
            ],
            id="another bottom's place",
        ),
        pytest.param(
            'layer { name: "a" top: "x" }\n'
            'layer { name: "b" bottom: "x" top: "y" }\n'
            'layer { name: "c" bottom: "x" top: "x" }',
            {2},
            [
                'net.prototxt:3:31: layer "c" overwrites "x" in place, but layer "b" needs what was there'
                " (net.prototxt:2:1). Give its top a name of its own"
            ],
            id="overwritten",
        ),
        pytest.param(
            'layer { name: "a" top: "x" loss_weight: 2 }\nlayer { name: "c" bottom: "x" top: "x" }',
            {1},
            [
                'net.prototxt:2:31: layer "c" overwrites "x" in place, but layer "a" gives it a loss_weight'
                " (net.prototxt:1:28). Give its top a name of its own"
            ],
            id="overwritten loss",
        ),
        pytest.param(
            'layer { name: "a" top: "x" }\nlayer { name: "c" bottom: "x" bottom: "x" top: "x" }',
            {1},
            [
                'net.prototxt:2:43: layer "c" overwrites "x" in place, but reads it twice. Give its top a name of its'
                " own"
            ],
            id="reads twice",
        ),
        pytest.param(
            'layer { name: "a" bottom: "u" top: "x" }\nlayer { name: "b" bottom: "v" top: "x" }',
            {0, 1},
            [
                'net.prototxt:1:19: layer "a" reads "u", which no layer above writes.',
                'net.prototxt:2:19: layer "b" reads "v", which no layer above writes.',
                'net.prototxt:2:31: layer "b" writes "x", which layer "a" already writes (net.prototxt:1:1). Give it a'
                " name of its own, or read the same blob to work in place",
            ],
            id="all at once",
        ),
        pytest.param(
            'layer { name: "a" top: "x" }\nlayer { name: "b" bottom: "x" top: "x" }\n'
            'layer { name: "c" bottom: "x" top: "x" }\n'
            'layer { name: "d" bottom: "x" }\nlayer { name: "e" bottom: "x" }',
            set(),
            [],
            id="a chain in place",
        ),
    ],
)
def test_wiring(text, wrong, expected):
    assert wiring(text) == (wrong, expected)


def test_a_layer_that_is_left_out():
    text = MNIST.replace(
        'include { phase: TEST } }\nlayer { name: "ip"', "include { stage: 'x' } }\nlayer { name: \"ip\""
    )
    assert wiring(text, State(TEST)) == (
        {0},
        [
            'net.prototxt:4:41: layer "ip" reads "data", which no layer above writes: the rules of layer "mnist"'
            " (net.prototxt:2:1), which does, leave it out in TEST"
        ],
    )


# Splits.


def split(text):
    return [schema.to_text(one.message).split() for one in graph.insert_splits(layers(text), {"EuclideanLoss"})]


def plain(text):
    return [schema.to_text(one.message).split() for one in layers(text)]


@pytest.mark.parametrize(
    "text",
    [
        """
        layer { name: 'data' type: 'Data' top: 'data' top: 'label' }
        layer { name: 'innerprod' type: 'InnerProduct' bottom: 'data' top: 'innerprod' }
        layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'innerprod' bottom: 'label' }
        """,
        """
        layer { name: 'data' type: 'Data' top: 'data' }
        layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' }
        layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' }
        layer { name: 'drop' type: 'Dropout' bottom: 'conv' top: 'conv' }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'conv' top: 'ip' loss_weight: 3 }
        """,
    ],
)
def test_no_splits(text):
    assert split(text) == plain(text)


def test_splits():
    found = split("""
        layer { name: 'data' type: 'Data' top: 'data' top: 'label' }
        layer { name: 'ip1' type: 'InnerProduct' bottom: 'data' top: 'ip1' }
        layer { name: 'ip2' type: 'InnerProduct' bottom: 'data' top: 'ip2' }
        layer { name: 'loss1' type: 'EuclideanLoss' bottom: 'ip1' bottom: 'label' top: 'l1' }
        layer { name: 'loss2' type: 'EuclideanLoss' bottom: 'ip2' bottom: 'label' top: 'l2' }
    """)
    assert found == plain("""
        layer { name: 'data' type: 'Data' top: 'data' top: 'label' }
        layer { name: 'data_data_0_split' type: 'Split' bottom: 'data'
                top: 'data_data_0_split_0' top: 'data_data_0_split_1' }
        layer { name: 'label_data_1_split' type: 'Split' bottom: 'label'
                top: 'label_data_1_split_0' top: 'label_data_1_split_1' }
        layer { name: 'ip1' type: 'InnerProduct' bottom: 'data_data_0_split_0' top: 'ip1' }
        layer { name: 'ip2' type: 'InnerProduct' bottom: 'data_data_0_split_1' top: 'ip2' }
        layer { name: 'loss1' type: 'EuclideanLoss' bottom: 'ip1' bottom: 'label_data_1_split_0' top: 'l1' }
        layer { name: 'loss2' type: 'EuclideanLoss' bottom: 'ip2' bottom: 'label_data_1_split_1' top: 'l2' }
    """)


def test_splits_behind_what_works_in_place():
    found = split("""
        layer { name: 'data' type: 'Data' top: 'data' }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'x' }
        layer { name: 'relu' type: 'ReLU' bottom: 'x' top: 'x' }
        layer { name: 'a' type: 'InnerProduct' bottom: 'x' top: 'a' }
        layer { name: 'b' type: 'Eltwise' bottom: 'x' bottom: 'x' bottom: 'a' top: 'b' }
    """)
    assert found == plain("""
        layer { name: 'data' type: 'Data' top: 'data' }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'x' }
        layer { name: 'relu' type: 'ReLU' bottom: 'x' top: 'x' }
        layer { name: 'x_relu_0_split' type: 'Split' bottom: 'x'
                top: 'x_relu_0_split_0' top: 'x_relu_0_split_1' top: 'x_relu_0_split_2' }
        layer { name: 'a' type: 'InnerProduct' bottom: 'x_relu_0_split_0' top: 'a' }
        layer { name: 'b' type: 'Eltwise' bottom: 'x_relu_0_split_1' bottom: 'x_relu_0_split_2' bottom: 'a' top: 'b' }
    """)


def test_the_first_copy_carries_the_loss():
    text = """
        layer { name: 'data' type: 'Data' top: 'data' }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'x' loss_weight: 2.5 }
        layer { name: 'a' type: 'InnerProduct' bottom: 'x' top: 'a' }
        layer { name: 'b' type: 'InnerProduct' bottom: 'x' top: 'b' }
    """
    expected = """
        layer { name: 'data' type: 'Data' top: 'data' }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'x' }
        layer { name: 'x_ip_0_split' type: 'Split' bottom: 'x' top: 'x_ip_0_split_0' top: 'x_ip_0_split_1'
                top: 'x_ip_0_split_2' loss_weight: 2.5 loss_weight: 0 loss_weight: 0 }
        layer { name: 'a' type: 'InnerProduct' bottom: 'x_ip_0_split_1' top: 'a' }
        layer { name: 'b' type: 'InnerProduct' bottom: 'x_ip_0_split_2' top: 'b' }
    """
    assert split(text) == plain(expected)
    loss, weight = (
        ("'InnerProduct' bottom: 'data'", "'EuclideanLoss' bottom: 'data'"),
        ("top: 'x' }", "top: 'x' loss_weight: 0 }"),
    )
    assert split(text.replace(*loss)) == plain(expected.replace(*loss).replace(*weight)), (
        "it is 1 where nothing is said"
    )


def test_places_are_kept():
    found = graph.insert_splits(layers("\nlayer { name: 'a' top: 'x' }\nlayer { bottom: 'x' bottom: 'x' }"))
    assert [str(one.place()) for one in found] == ["net.prototxt:2:1", "net.prototxt:2:1", "net.prototxt:3:1"]


# Who runs backward.


def link(bottoms="", tops="", *, learns=False, loss=False, allows=None, down=(), differentiable=True):
    bottoms = bottoms.split()
    allows = [True] * len(bottoms) if allows is None else allows
    return Links(bottoms, tops.split(), learns, loss, allows, down, differentiable)


DATA = link("", "data label", differentiable=False)


def flows(*links, force=False):
    return [(flow.runs, flow.bottoms) for flow in graph.needs_backward(links, force)]


@pytest.mark.parametrize(
    "links, expected",
    [
        pytest.param(
            [DATA, link("data", "ip", learns=True), link("ip label", "loss", loss=True)],
            [(False, []), (True, [False]), (True, [True, False])],
            id="plain",
        ),
        pytest.param(
            [DATA, link("data", "ip"), link("ip label", "loss", loss=True)],
            [(False, []), (False, [False]), (False, [False, False])],
            id="nothing learns",
        ),
        pytest.param(
            [DATA, link("data", "ip", learns=True), link("ip", "relu")],
            [(False, []), (False, [False]), (False, [False])],
            id="no loss",
        ),
        # Caffe's "tricky": the frozen branch needs no gradient, but its other bottom does.
        pytest.param(
            [
                DATA,
                link("data", "frozen"),
                link("label", "transformed", learns=True),
                link("frozen transformed", "loss", loss=True),
            ],
            [(False, []), (False, [False]), (True, [False]), (True, [False, True])],
            id="tricky",
        ),
        pytest.param(
            [
                DATA,
                link("data", "a", learns=True),
                link("a", "b"),
                link("b", "c", learns=True),
                link("c", "l", loss=True),
            ],
            [(False, []), (True, [False]), (True, [True]), (True, [True]), (True, [True])],
            id="deep",
        ),
        pytest.param(
            [DATA, link("data", "a", learns=True), link("a", "b", down=[False]), link("b", "l", loss=True)],
            [(False, []), (False, [False]), (True, [False]), (True, [True])],
            id="propagate_down: false",
        ),
        pytest.param(
            [DATA, link("data", "a", learns=True, down=[True]), link("a", "l", loss=True)],
            [(False, []), (True, [True]), (True, [True])],
            id="propagate_down: true",
        ),
        # The label comes from a branch that learns; the loss may not pass a gradient there, or is told not to.
        pytest.param(
            [
                DATA,
                link("data", "x", learns=True),
                link("data", "y", learns=True),
                link("y", "z"),
                link("x z", "loss", loss=True, down=[True, False]),
            ],
            [(False, []), (True, [False]), (False, [False]), (False, [False]), (True, [True, False])],
            id="a branch that is skipped",
        ),
        pytest.param(
            [
                DATA,
                link("data", "y", learns=True),
                link("y", "argmax", differentiable=False),
                link("data", "x", learns=True),
                link("x argmax", "loss", loss=True),
            ],
            [(False, []), (False, [False]), (False, [False]), (True, [False]), (True, [True, False])],
            id="nothing passes through a layer without a gradient",
        ),
        pytest.param(
            [
                DATA,
                link("data", "x", learns=True),
                link("x", "x0 x1"),
                link("x0 label", "accuracy", differentiable=False),
                link("x1 label", "loss", loss=True),
            ],
            [(False, []), (True, [False]), (True, [True]), (False, [False, False]), (True, [True, False])],
            id="a branch without a gradient",
        ),
        pytest.param(
            [DATA, link("data", "x", learns=True), link("x", "x", learns=True), link("x", "loss", loss=True)],
            [(False, []), (True, [False]), (True, [True]), (True, [True])],
            id="in place",
        ),
        pytest.param(
            [DATA, link("data", "data", learns=True), link("data", "loss", loss=True)],
            [(False, []), (True, [False]), (True, [True])],
            id="in place on data",
        ),
        pytest.param(
            [DATA, link("data", "x", learns=True), link("x label", "loss", loss=True), link("loss", "")],
            [(False, []), (True, [False]), (True, [True, False]), (False, [False])],
            id="a loss that somebody reads",
        ),
        pytest.param(
            [DATA, link("data", "x", learns=True), link("x", "x0 x1", loss=True), link("x1", "")],
            [(False, []), (True, [False]), (True, [True]), (False, [False])],
            id="a loss in the middle",
        ),
    ],
)
def test_needs_backward(links, expected):
    assert flows(*links) == expected


@pytest.mark.parametrize(
    "links, expected",
    [
        pytest.param(
            [DATA, link("data", "ip"), link("ip label", "loss", loss=True, allows=[True, False])],
            [(False, []), (True, [True]), (True, [True, False])],
            id="all but labels",
        ),
        pytest.param(
            [DATA, link("data", "ip"), link("ip", "prob")],
            [(False, []), (True, [True]), (True, [True])],
            id="without a loss",
        ),
        pytest.param(
            [DATA, link("data label", "l", loss=True)],
            [(False, []), (True, [True, True])],
            id="both bottoms of a Euclidean loss",
        ),
        pytest.param(
            [DATA, link("data", "ip"), link("ip label", "accuracy", differentiable=False)],
            [(False, []), (True, [True]), (False, [False, False])],
            id="not what has no gradient",
        ),
        pytest.param(
            [DATA, link("data", "ip", down=[False]), link("ip", "l", loss=True)],
            [(False, []), (True, [True]), (True, [True])],
            id="propagate_down does not stop it",
        ),
    ],
)
def test_force_backward(links, expected):
    assert flows(*links, force=True) == expected

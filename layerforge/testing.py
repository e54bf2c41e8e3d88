"""Checks for layers, ours and yours: one call holds a layer to its formula, its gradient and the house's contract.

>>> check_layer('type: "ReLU" relu_param { negative_slope: 0.1 }', [(2, 3, 4)], lambda x: np.where(x > 0, x, 0.1 * x))

A layer is driven directly, without a net. What does not hold raises AssertionError, and says what, where and by how
much.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import device as devices
from . import layer as layers
from . import schema
from .blob import Shape, View
from .errors import DeviceError, KernelError, ShapeError
from .graph import LEVELS
from .layer import TRAIN

__all__ = ["Bench", "assert_close", "check_gradient", "check_layer", "pairtest"]

#: How a bottom or a parameter gets its values: None for N(0, 1), a pair for U[low, high), an array as it is.
Values = Any

#: Every layer computes the same on all of these. One that this machine lacks is left out.
DEVICES = ("cpu", "emulated", "gpu")

KINKS = 20  # how many directions are tried where a function is not smooth


def available() -> list[str]:
    """Those of `DEVICES` that this machine has."""
    found = []
    for name in DEVICES:
        try:
            devices.get(name)
            found.append(name)
        except DeviceError:
            continue
    return found


def check_layer(
    definition: str,
    bottom_shapes: Sequence[Shape],
    expected: Callable[..., Any] | None = None,
    *,
    in_place: bool = False,
    phase: int = TRAIN,
    bottoms: Sequence[Values] | None = None,
    parameters: Mapping[str, Values] | None = None,
    through: Sequence[int] | None = None,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Holds a layer to everything that a layer must be.

    ``definition`` is what stands between the braces of ``layer { ... }``; name, bottoms and tops may be left out.
    ``expected(*bottoms, **parameters)`` is the formula: the top, or a tuple of tops, of float64 arrays. ``bottoms`` and
    ``parameters`` (by name) say how values are drawn: None for N(0, 1), a pair for U[low, high), an array as it is.
    ``through`` lists the tops that have a gradient: by default all, or the first one of a loss.

    - The definition survives printing and parsing; shapes are known without data, unless they depend on them, and agree
      with the formula.
    - Forward agrees with the formula within ``tolerance`` of the largest value in float32, and 100 times closer in
      float64 (an option such as 0.1 is a float of 32 bits in the prototxt).
    - Forward changes no bottom, backward neither bottoms nor tops, and both repeat bit for bit.
    - With ``in_place``, bottom 0 and top 0 may be one blob, with the same results.
    - The directional derivative over all bottoms and parameters together, in float64, agrees with backward's.
    - Backward overwrites the diffs of the bottoms, which hold NaN before, adds to those of the parameters, and leaves
      alone what needs no diff.
    - What it says by ``needs_top``, ``needs_top_in_place`` and ``leaves`` is so. Of LayerForge's own layers, also what
      it does not say.
    - An array that is not contiguous is refused with KernelError or computed rightly; it is never copied and lost.
    - An empty batch works, and NaN in a bottom is NaN in the top: where the formula has it, or else somewhere.
    - Every device that this machine has computes the same as the CPU.
    """
    with contextlib.closing(_Case(definition, bottom_shapes, phase, bottoms, parameters, through, seed)) as case:
        case.check_text()
        case.check_forward(expected, tolerance)
        case.check_repeats()
        if in_place:
            case.check_in_place()
        if case.differentiable:
            check_gradient(
                definition, bottom_shapes, phase=phase, bottoms=bottoms, parameters=parameters, through=through,
                seed=seed,
            )  # fmt: skip
            case.check_backward(tolerance)
            case.check_needs_top(in_place)
        case.check_strided()
        case.check_empty()
        case.check_nan(expected, tolerance)
        case.check_devices(tolerance)


def check_gradient(
    definition: str,
    bottom_shapes: Sequence[Shape],
    *,
    phase: int = TRAIN,
    bottoms: Sequence[Values] | None = None,
    parameters: Mapping[str, Values] | None = None,
    through: Sequence[int] | None = None,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> None:
    """Holds backward to the derivative of forward, along one random direction of all bottoms and parameters together.

    With f = sum of w * top over all tops, for random w, in float64: backward's slope <df/dx, v> must be
    (f(x + h v) - f(x - h v)) / 2h within ``tolerance`` of sum |df/dx * v|, for h = ``step``. Where the difference is no
    larger than that of the slopes on both sides, the function has a kink between the two points, and v is drawn anew.
    """
    case = _Case(definition, bottom_shapes, phase, bottoms, parameters, through, seed)
    bench = case.bench()
    point = [*case.bottoms, *case.parameters.values()]
    number = len(case.bottoms)

    def value(arrays: Sequence[np.ndarray]) -> float:
        tops = bench.forward(arrays[:number], dict(zip(case.parameters, arrays[number:], strict=True)))
        return sum(float(np.sum(y * w)) for y, w in zip(tops, case.top_diffs, strict=True) if w is not None)

    value(point)
    diffs, parameter_diffs = bench.backward(case.top_diffs)
    slopes = [*diffs, *parameter_diffs.values()]
    for _ in range(KINKS):
        ways = [case.rng.standard_normal(x.shape) * (slope is not None) for x, slope in zip(point, slopes, strict=True)]
        terms = [slope * way for slope, way in zip(slopes, ways, strict=True) if slope is not None]
        size = sum(float(np.abs(term).sum()) for term in terms)
        backward = sum(float(term.sum()) for term in terms)

        def moved(by: float, ways: Sequence[np.ndarray] = ways) -> float:
            return value([x + by * way for x, way in zip(point, ways, strict=True)])

        here, right, left = moved(0), moved(step), moved(-step)
        forward = (right - left) / (2 * step)
        kink = abs((right - here) - (here - left)) / step
        wrong = abs(backward - forward)
        # Differences of f are no better than its last digits.
        if wrong <= tolerance * size + 1e-14 * abs(here) / step:
            return
        if not wrong <= kink:
            case.fail(f"backward's slope along a random direction is {backward:.9g}, that of forward is {forward:.9g}")
    case.fail(f"forward has a kink in every one of {KINKS} directions: choose other values for the bottoms")


def pairtest(
    first: str,
    second: str,
    bottom_shapes: Sequence[Shape],
    *,
    phase: int = TRAIN,
    dtype: Any = np.float32,
    bottoms: Sequence[Values] | None = None,
    parameters: Mapping[str, Values] | None = None,
    through: Sequence[int] | None = None,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Runs two implementations side by side, on the same numbers: tops, diffs and parameter diffs must agree.

    Both are given as to `check_layer`; their parameters are paired in their order, and ``parameters`` names the
    first's.
    """
    one = _Case(first, bottom_shapes, phase, bottoms, parameters, through, seed)
    two = _Case(second, bottom_shapes, phase, bottoms, None, through, seed)
    mine, other = one.bench(dtype), two.bench(dtype)
    theirs = dict(zip(two.parameters, one.parameters.values(), strict=True))
    for i, (a, b) in enumerate(
        zip(other.forward(one.bottoms, theirs), mine.forward(one.bottoms, one.parameters), strict=True)
    ):
        assert_close(a, b, tolerance, f"{two.name} against {one.name}: top {i}")
    if one.differentiable:
        expected, actual = mine.backward(one.top_diffs), other.backward(one.top_diffs)
        two.compare_diffs(actual, expected, tolerance, f"against {one.name}: ")


def assert_close(actual: Any, expected: Any, tolerance: float, what: str = "array") -> None:
    """Holds an array to another of its shape: no entry may be off by more than ``tolerance`` times the largest.

    Infinities and NaNs must be where they are expected. Raises AssertionError with the worst place.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: shape {actual.shape}, expected {expected.shape}")
    if not actual.size:
        return
    finite = np.isfinite(expected)
    largest = float(np.abs(expected[finite]).max(initial=0))
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(actual.astype(np.float64) - expected), 0)
    error[~finite & ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))] = np.inf
    error[np.isnan(error)] = np.inf
    if error.max() > tolerance * max(largest, 1e-6):
        at = np.unravel_index(error.argmax(), error.shape)
        place = f" at {tuple(int(n) for n in at)}" if at else ""
        raise AssertionError(
            f"{what}: {actual[at]:.9g}{place}, expected {expected[at]:.9g}"
            f" (off by {error.max():.2g}; {tolerance:g} of the largest, {largest:.3g}, is allowed)"
        )


class Bench:
    """One layer with its arrays, outside any net."""

    def __init__(
        self,
        definition: str,
        bottom_shapes: Sequence[Shape],
        *,
        phase: int = TRAIN,
        dtype: Any = np.float64,
        device: str = "cpu",
        in_place: bool = False,
        seed: int = 0,
    ):
        self.device = devices.get(device)
        self.recorded = False
        self.dtype = np.dtype(dtype)
        self.definition = complete(definition, len(bottom_shapes), in_place)
        made = layers.layer_class(self.definition)(self.definition, phase, self.device, dtype, seed)
        self.layer = made
        made.bottom_shapes = tuple(bottom_shapes)
        made.setup(*bottom_shapes)
        shapes = [tuple(shape) for shape in made.top_shapes(*bottom_shapes)]
        self.bottom = [View(name, tuple(s)) for name, s in zip(made.param.bottom, bottom_shapes, strict=True)]
        self.top = [View(name, shape) for name, shape in zip(made.param.top, shapes, strict=True)]
        if in_place:
            self.top[0] = self.bottom[0]
        for x in self.bottom:
            x.data, x.diff = self.array(x.shape), self.array(x.shape)
        for y in self.top:
            if not in_place or y is not self.bottom[0]:
                y.data = self.bottom[0].data.reshape(y.shape) if made.shares_data else self.array(y.shape)
                y.diff = self.bottom[0].diff.reshape(y.shape) if made.shares_diff else self.array(y.shape)
            y.resize = self.resize if made.dynamic else None
        for i, x in enumerate(self.bottom):
            x.needs_diff = made.allows_diff(i)
        for parameter in made.blobs:
            parameter.data, parameter.diff = self.array(parameter.shape), self.array(parameter.shape)
            parameter.needs_diff = made.own_learning
        for name, (shape, kind) in made.state_shapes(*bottom_shapes).items():
            made.state[name] = self.device.zeros(tuple(shape), kind)
        made.scratch = self.array((made.scratch_size(*bottom_shapes),))

    def run(self, work: Callable[[], None]) -> None:
        """Does what a pass does: at once, or by a record and its replay."""
        (self.device.record(work) if self.recorded else work)()

    def resize(self, view: View, shape: Shape) -> None:
        """Gives the top of a dynamic layer another shape."""
        view.shape = shape
        view.data, view.diff = self.array(shape), self.array(shape)

    def array(self, shape: Shape) -> Any:
        """An array full of NaN."""
        array = self.device.empty(shape, self.dtype)
        self.device.from_numpy(array, np.full(shape, np.nan, self.dtype))
        return array

    def read(self, array: Any) -> np.ndarray:
        return np.array(self.device.to_numpy(array))

    def write(self, array: Any, values: Any) -> None:
        self.device.from_numpy(array, np.asarray(values, self.dtype))

    def forward(self, bottoms: Sequence[Any], parameters: Mapping[str, Any]) -> list[np.ndarray]:
        """The tops for these values."""
        for x, values in zip(self.bottom, bottoms, strict=True):
            self.write(x.data, values)
        for name, values in parameters.items():
            self.write(self.layer.params[name].data, values)
        self.run(lambda: self.layer.forward(self.bottom, self.top))
        doubt = self.layer.take_doubt()
        if doubt is not None and np.isnan(self.device.to_numpy(doubt[0])):
            doubt[1]()
        return [self.read(y.data) for y in self.top]

    def backward(
        self, top_diffs: Sequence[Any], start: float = 0.0
    ) -> tuple[list[np.ndarray | None], dict[str, np.ndarray | None]]:
        """The diffs of bottoms and parameters for these of the tops; None where none is needed.

        The diffs of the bottoms hold NaN before, those of the parameters ``start``. None for a top: nobody wrote its
        diff.
        """
        for x in self.bottom:
            if x.diff is not None:
                self.write(x.diff, np.full(x.shape, np.nan))
        for parameter in self.layer.blobs:
            self.write(parameter.diff, np.full(parameter.shape, start))
        for y, values in zip(self.top, top_diffs, strict=True):
            if y not in self.bottom:
                y.needs_diff = values is not None
            self.write(y.diff, np.full(y.shape, np.nan) if values is None else values)
        self.run(lambda: self.layer.backward(self.bottom, self.top))
        params = self.layer.params
        return (
            [self.read(x.diff) if x.needs_diff else None for x in self.bottom],
            {name: self.read(p.diff) if p.needs_diff else None for name, p in params.items()},
        )


def complete(definition: str, bottoms: int, in_place: bool = False) -> schema.Definition:
    """A layer's definition from its text, with the name, bottoms and tops that the text leaves out."""
    layers.load_layers()
    made = schema.parse(definition, "LayerParameter")
    message = made.message
    cls = layers.layer_class(made)
    if not message.name:
        message.name = message.type.lower()
    if not message.bottom:
        message.bottom.extend(f"bottom{i}" for i in range(bottoms))
    if not message.top:
        least = cls.tops[0] if isinstance(cls.tops, tuple) else cls.tops
        message.top.extend(f"top{i}" for i in range(least))
    if in_place:
        message.top[0] = message.bottom[0]
    return made


class _Case:
    """One layer with the numbers it is tried on."""

    def __init__(
        self,
        definition: str,
        bottom_shapes: Sequence[Shape],
        phase: int,
        bottoms: Sequence[Values] | None,
        parameters: Mapping[str, Values] | None,
        through: Sequence[int] | None,
        seed: int,
    ):
        self.definition = definition
        self.shapes = [tuple(shape) for shape in bottom_shapes]
        self.phase = phase
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.layers: weakref.WeakSet[layers.Layer] = weakref.WeakSet()
        bench = self.bench()
        made = bench.layer
        self.name = made.type
        how = list(bottoms) if bottoms is not None else [None] * len(self.shapes)
        self.bottoms = [self.draw(one, shape) for one, shape in zip(how, self.shapes, strict=True)]
        self.parameters = {n: self.draw((parameters or {}).get(n), p.shape) for n, p in made.params.items()}
        if made.dynamic:
            self.run(bench)  # its tops have their shapes then
        has_gradient = through if through is not None else [0] if made.loss else range(len(bench.top))
        self.top_diffs = [self.draw(None, y.shape) if i in has_gradient else None for i, y in enumerate(bench.top)]
        self.needs_diff = [x.needs_diff for x in bench.bottom]
        self.differentiable = made.differentiable is not False and (any(self.needs_diff) or bool(self.parameters))

    def bench(self, dtype: Any = np.float64, shapes: Sequence[Shape] | None = None, **options: Any) -> Bench:
        shapes = self.shapes if shapes is None else shapes
        bench = Bench(self.definition, shapes, phase=self.phase, dtype=dtype, seed=self.seed, **options)
        self.layers.add(bench.layer)
        return bench

    def close(self) -> None:
        """Lets go of the files and threads of all layers."""
        for made in self.layers:
            made.close()

    def draw(self, how: Values, shape: Shape) -> np.ndarray:
        """Values as asked for, that float32 holds exactly: both precisions then see the same."""
        if how is None:
            values = self.rng.standard_normal(shape)
        elif isinstance(how, tuple):
            low, high = how
            values = self.rng.uniform(low, high, shape)
        else:
            values = np.broadcast_to(np.asarray(how, np.float64), shape)
        return np.asarray(values, np.float32).astype(np.float64)

    def fail(self, message: str) -> None:
        raise AssertionError(f"{self.name}: {message}")

    def run(self, bench: Bench) -> list[np.ndarray]:
        return bench.forward(self.bottoms, self.parameters)

    def both(self, bench: Bench) -> tuple[list[np.ndarray], Any]:
        tops = self.run(bench)
        return tops, bench.backward(self.top_diffs) if self.differentiable else ([], {})

    def formula(self, expected: Callable[..., Any], bottoms: Sequence[np.ndarray]) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            tops = expected(*bottoms, **self.parameters)
        return [np.asarray(y) for y in (tops if isinstance(tops, tuple) else (tops,))]

    def compare(self, actual: Iterable[Any], expected: Iterable[Any], tolerance: float, what: str) -> None:
        for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
            assert_close(a, b, tolerance, f"{self.name}: {what}top {i}")

    def compare_diffs(self, actual: Any, expected: Any, tolerance: float, what: str) -> None:
        for i, (a, b) in enumerate(zip(actual[0], expected[0], strict=True)):
            if a is not None and b is not None:
                assert_close(a, b, tolerance, f"{self.name}: {what}diff of bottom {i}")
        for (name, a), b in zip(actual[1].items(), expected[1].values(), strict=True):
            if a is not None and b is not None:
                assert_close(a, b, tolerance, f'{self.name}: {what}diff of parameter "{name}"')

    # The checks, in the order of check_layer's list.

    def check_text(self) -> None:
        message = self.bench().layer.param
        again = schema.parse(schema.to_text(message), "LayerParameter").message
        if again != message:
            self.fail(f"its definition does not survive printing and parsing:\n{schema.to_text(message)}")

    def check_forward(self, expected: Callable[..., Any] | None, tolerance: float) -> None:
        reference = self.run(self.bench()) if expected is None else self.formula(expected, self.bottoms)
        for dtype, allowed in ((np.float32, tolerance), (np.float64, tolerance / 100)):
            bench = self.bench(dtype)
            if bench.layer.dynamic:
                self.run(bench)
            shapes = [y.shape for y in bench.top]
            if shapes != [y.shape for y in reference]:
                self.fail(f"top_shapes gives {shapes}, the formula {[y.shape for y in reference]}")
            self.compare(self.run(bench), reference, allowed, f"forward in {np.dtype(dtype)}: ")

    def check_repeats(self) -> None:
        bench = self.bench()
        tops, diffs = self.both(bench)
        for i, (x, values) in enumerate(zip(bench.bottom, self.bottoms, strict=True)):
            if not np.array_equal(bench.read(x.data), values, equal_nan=True):
                self.fail(f"bottom {i} is changed, though not in place")
        for i, (y, values) in enumerate(zip(bench.top, tops, strict=True)):
            if not np.array_equal(bench.read(y.data), values, equal_nan=True):
                self.fail(f"backward changes the data of top {i}")
        for i, (y, weights) in enumerate(zip(bench.top, self.top_diffs, strict=True)):
            if self.differentiable and weights is not None and not np.array_equal(bench.read(y.diff), weights):
                self.fail(f"backward changes the diff of top {i}")
        again, diffs_again = self.both(bench)
        self.compare(again, tops, 0, "repeated: ")
        self.compare_diffs(diffs_again, diffs, 0, "repeated: ")

    def check_in_place(self) -> None:
        for dtype in (np.float32, np.float64):
            tops, diffs = self.both(self.bench(dtype))
            tops_in_place, diffs_in_place = self.both(self.bench(dtype, in_place=True))
            self.compare(tops_in_place, tops, 0, "in place: ")
            self.compare_diffs(diffs_in_place, diffs, 100 * float(np.finfo(dtype).eps), "in place: ")

    def check_backward(self, tolerance: float) -> None:
        bench = self.bench()
        _, expected = self.both(bench)
        for i, diff in enumerate(expected[0]):
            if diff is not None and np.isnan(diff).any():
                self.fail(f"backward leaves part of the diff of bottom {i} as it was; it must overwrite all of it")
        single = self.bench(np.float32)
        self.run(single)
        self.compare_diffs(single.backward(self.top_diffs), expected, 10 * tolerance, "backward in float32: ")
        _, added = bench.backward(self.top_diffs, start=3.0)
        for name, diff in added.items():
            alone = expected[1][name]
            if diff is not None and alone is not None:
                assert_close(
                    diff, alone + 3, tolerance / 100, f'{self.name}: diff of parameter "{name}", which held 3,'
                )
        if not bench.layer.shares_diff:
            self.check_needs(expected)

    def check_needs(self, expected: Any) -> None:
        """One bottom at a time, and then the parameters alone: what needs no diff is not touched."""
        for only in [*(i for i, needed in enumerate(self.needs_diff) if needed), None]:
            bench = self.bench()
            for i, x in enumerate(bench.bottom):
                x.needs_diff = i == only
                x.diff = x.diff if x.needs_diff else None
            for parameter in bench.layer.blobs:
                parameter.needs_diff = parameter.needs_diff and only is None
            if only is None and not any(p.needs_diff for p in bench.layer.blobs):
                continue
            self.run(bench)
            diffs = bench.backward(self.top_diffs, start=3.0 if only is not None else 0.0)
            who = "parameters" if only is None else f"bottom {only}"
            self.compare_diffs(diffs, expected, 1e-12, f"when only {who} need{'s' * (only is not None)} it, ")
            for name, parameter in bench.layer.params.items():
                if (
                    not parameter.needs_diff
                    and not (bench.read(parameter.diff) == (3 if only is not None else 0)).all()
                ):
                    self.fail(f'backward changes the diff of parameter "{name}", which needs none')

    def check_needs_top(self, in_place: bool) -> None:
        """What backward needs of the tops' data, and what of the bottom is left in place."""
        _, diffs = self.both(self.bench())
        made = self.bench().layer
        ours = self.is_ours(made)
        for works_in_place in (False, True) if in_place else (False,):
            said, name = made.needs_top, "needs_top"
            if works_in_place:
                said, name = max(said, made.needs_top_in_place, key=LEVELS.index), "needs_top_in_place"
            needed = [
                level
                for level, spoil in (("signs", self.nothing), ("values", self.other_values))
                if not self.survives(spoil, works_in_place, diffs)
            ]
            if said == "signs" and "values" in needed:
                self.fail(f'{name} says "signs", but backward needs the values of its tops')
            partly = any(weights is None for weights in self.top_diffs)
            if ours and ((needed and not said) or (said and not needed and not partly)):
                what = f"needs the {needed[-1]} of its tops" if needed else "needs nothing of its tops"
                self.fail(f'{name} says "{said}", but backward {what}')
        if in_place and made.leaves and diffs[0][0] is not None:
            self.check_leaves(made.leaves)

    def is_ours(self, made: layers.Layer) -> bool:
        return type(made).__module__.startswith(f"{__package__}.layers.")

    def survives(self, spoil: Callable[[np.ndarray], np.ndarray], in_place: bool, diffs: Any) -> bool:
        """Whether backward gives these diffs though the tops' data were changed."""
        bench = self.bench(in_place=in_place)
        if bench.layer.shares_data:
            return True
        tops = self.run(bench)
        for y, values in zip(bench.top, tops, strict=True):
            bench.write(y.data, spoil(values))
        with np.errstate(all="ignore"):
            now = bench.backward(self.top_diffs)
        try:
            self.compare_diffs(now, diffs, 1e-12, "")
        except AssertionError:
            return False
        return True

    def nothing(self, values: np.ndarray) -> np.ndarray:
        """Others of other signs."""
        return np.random.default_rng((self.seed, 1)).normal(0, 10, values.shape)

    def other_values(self, values: np.ndarray) -> np.ndarray:
        """Others of the same signs."""
        return np.sign(values) * np.random.default_rng((self.seed, 1)).uniform(1, 2, values.shape)

    def check_leaves(self, leaves: str) -> None:
        bench = self.bench(in_place=True)
        (y, *_), (dx, *_) = self.run(bench), self.both(self.bench())[1][0]
        x, flows = self.bottoms[0], dx != 0
        kept = y == x if leaves == "values" else np.sign(y) == np.sign(x)
        if not kept[flows].all():
            self.fail(f'leaves says "{leaves}", but in place these change where the gradient is not 0')

    def check_strided(self) -> None:
        tops, diffs = self.both(self.bench())
        for which, i, kind in self.unshared():
            bench = self.bench()
            view = getattr(bench, which)[i]
            setattr(view, kind, strided(getattr(view, kind)))
            try:
                tops_now, diffs_now = self.both(bench)
            except KernelError:
                continue
            what = f"with the {kind} of {which} {i} not contiguous: "
            self.compare(tops_now, tops, 1e-12, what)
            self.compare_diffs(diffs_now, diffs, 1e-12, what)

    def unshared(self) -> Iterator[tuple[str, int, str]]:
        """Every array that belongs to one blob alone."""
        bench = self.bench()
        for which in ("bottom", "top"):
            for i, view in enumerate(getattr(bench, which)):
                if view.count > 1 and not bench.layer.shares_data:
                    yield which, i, "data"
                if view.count > 1 and not bench.layer.shares_diff and self.differentiable and view.needs_diff:
                    yield which, i, "diff"

    def check_empty(self) -> None:
        if not (self.shapes and all(self.shapes)):
            return
        shapes = [(0, *shape[1:]) for shape in self.shapes]
        try:
            bench = self.bench(shapes=shapes)
        except ShapeError:
            return  # it says that it needs more
        parameters = {name: self.draw(None, p.shape) for name, p in bench.layer.params.items()}
        bench.forward([np.zeros(shape) for shape in shapes], parameters)
        if self.differentiable:
            weights = [None if w is None else np.ones(y.shape) for w, y in zip(self.top_diffs, bench.top, strict=True)]
            _, diffs = bench.backward(weights)
            for name, diff in diffs.items():
                if diff is not None and not (diff == 0).all():
                    self.fail(f'an empty batch changes the diff of parameter "{name}"')

    def check_nan(self, expected: Callable[..., Any] | None, tolerance: float) -> None:
        for i, needed in enumerate(self.needs_diff):
            if not (needed and self.bottoms[i].size and self.top_diffs):
                continue
            bottoms = [x.copy() for x in self.bottoms]
            bottoms[i].flat[self.rng.integers(bottoms[i].size)] = np.nan
            tops = self.bench().forward(bottoms, self.parameters)
            what = f"with NaN in bottom {i}: "
            if expected is not None:
                self.compare(tops, self.formula(expected, bottoms), tolerance, what)
                continue
            bottoms[i][...] = np.nan
            tops = self.bench().forward(bottoms, self.parameters)
            if not any(np.isnan(y).any() for y in tops):
                self.fail(f"{what}no top has one")

    def check_devices(self, tolerance: float) -> None:
        tops, diffs = self.both(self.bench(np.float32))
        for device in available()[1:]:
            tops_there, diffs_there = self.both(self.bench(np.float32, device=device))
            self.compare(tops_there, tops, tolerance, f"on device {device}: ")
            self.compare_diffs(diffs_there, diffs, 10 * tolerance, f"on device {device}: ")
            self.check_recorded(device)

    def check_recorded(self, device: str) -> None:
        """Launches that are recorded and replayed give the same bits as those that are not."""
        bench = self.bench(np.float32, device=device)
        made = bench.layer
        if not (bench.device.records and made.records) or made.dynamic:
            return
        tops, diffs = self.both(bench)
        bench.recorded = True
        try:
            replayed, diffs_replayed = self.both(bench)
        except DeviceError:
            if self.is_ours(made):
                raise
            return  # it takes new memory, say, as array operations do: a net runs such a layer apart
        self.compare(replayed, tops, 0, f"replayed on device {device}: ")
        self.compare_diffs(diffs_replayed, diffs, 0, f"replayed on device {device}: ")


def strided(array: np.ndarray) -> np.ndarray:
    """A copy of an array that is not contiguous."""
    wide = np.full((*array.shape, 2), np.nan, array.dtype)
    wide[..., 0] = array
    return wide[..., 0]

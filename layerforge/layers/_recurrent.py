"""What LSTM and RNN share: bottoms, tops and parameters, and the products of all steps at once.

Caffe unrolls these layers into a net of many small ones. Here the inputs of all steps are multiplied by their weights
at once, and so are all gradients of weights and inputs; a step is left with one small product and one kernel.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from ..blob import Shape
from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import Layer, count

B = Kernels("broadcast.h")
K = Kernels("recurrent.h")


class Recurrent(Layer, register=False):
    """The part of a recurrent layer that does not depend on its cell. A cell says

    - ``states``: the names of what goes from step to step, the hidden state h first,
    - ``parts``: how many values of its input it has for each of its own,
    - ``names``: those of the weights of the input, its bias, the weights of the static input and those of h,
    - ``step_forward(t, cont, y)``: makes step t of its input; returns h;
    - ``after_steps(y, h)``: what is left after the last step, whose state is h: y, and the states to begin with next;
    - ``before_steps(y, spare)``: the diff of the h of all steps that y's diff is, or None if nobody wrote that, with
      two spare arrays (T, N, D);
    - ``step_backward(t, cont, dh, diffs, dinput)``: dinput, and the diffs of all states but h, from that diff, or None,
      and from the diffs of the states that the step behind left.

    Kept from forward to backward: input (T, N, parts D), which the cell may overwrite; before (T, N, D), the h that
    each step saw; and ``h_begin``, ``h_end`` (N, D) and so on, the states before the first step and after the last.
    """

    states: ClassVar[tuple[str, ...]]
    parts: ClassVar[int]
    names: ClassVar[tuple[str, str, str, str]]
    step_forward: Callable[..., Any]
    after_steps: Callable[..., None]
    before_steps: Callable[..., Any]
    step_backward: Callable[..., None]
    differentiable = (True, False, True)
    Options = "recurrent_param"

    def setup(self, *bottom_shapes):
        options = self.options
        self.hidden = options.num_output
        if self.hidden < 1:
            given = options.HasField("num_output")
            message = (
                "num_output: 0 must be at least 1" if given else "num_output is missing: write num_output: 256, say"
            )
            raise self.error(message, *(("num_output",) if given else ()), kind=DefinitionError)
        self.exposed = len(self.states) if options.expose_hidden else 0
        bottoms, tops = len(self.param.bottom), len(self.param.top)
        for field, given, allowed in (
            ("bottom", bottoms, (2 + self.exposed, 3 + self.exposed)),
            ("top", tops, (1 + self.exposed,)),
        ):
            if given not in allowed:
                number = " or ".join(map(str, allowed))
                message = f"with expose_hidden: {str(options.expose_hidden).lower()} it takes {number} {field}"
                raise self.error(f"{message}{'s' * (number != '1')}, not {given}", field, kind=DefinitionError)
        self.has_static = bottoms == 3 + self.exposed
        self.check(bottom_shapes)
        self.values = count(bottom_shapes[0], 2)
        self.static_values = count(bottom_shapes[2], 1) if self.has_static else 0
        weight, bias, static, recurrent = self.names
        outputs = self.parts * self.hidden
        self.parameter(weight, (outputs, self.values), options.weight_filler)
        self.parameter(bias, (outputs,), options.bias_filler)
        if self.has_static:
            self.parameter(static, (outputs, self.static_values), options.weight_filler)
        self.parameter(recurrent, (outputs, self.hidden), options.weight_filler)

    def check(self, bottom_shapes):
        """Raises ShapeError unless the bottoms fit each other."""
        x, cont = bottom_shapes[:2]
        self.require(len(x) >= 2, f"{self.describe(0)} must be (T, N, ...), T steps of N sequences", "bottom", 0)
        message = f"{self.describe(1)} must be {x[:2]}, one number for each step of {self.describe(0)}"
        self.require(cont == x[:2], message, "bottom", 1)
        if self.has_static:
            message = f"{self.describe(2)} must be ({x[1]}, ...), to fit the sequences of {self.describe(0)}"
            self.require(bottom_shapes[2][:1] == x[1:2], message, "bottom", 2)
        wanted = (1, x[1], self.hidden)
        for i in range(len(bottom_shapes) - self.exposed, len(bottom_shapes)):
            message = f"{self.describe(i)} must be {wanted}, the state before the first step"
            self.require(bottom_shapes[i] == wanted, message, "bottom", i)

    def top_shapes(self, *bottom_shapes):
        self.check(bottom_shapes)
        x = bottom_shapes[0]
        for i, first, values in ((0, 2, self.values), (2, 1, self.static_values))[: 1 + self.has_static]:
            found = count(bottom_shapes[i], first)
            message = (
                f"{self.describe(i)} has {found} values from axis {first} on, but the weights were made for {values}"
            )
            self.require(found == values, message, "bottom", i)
        return [(*x[:2], self.hidden), *[(1, x[1], self.hidden)] * self.exposed]

    def state_shapes(self, *bottom_shapes):
        steps, batch = bottom_shapes[0][:2]
        shapes: dict[str, Shape] = {"input": (steps, batch, self.parts * self.hidden)}
        shapes["before"] = (steps, batch, self.hidden)
        for name in self.states:
            shapes[f"{name}_begin"] = shapes[f"{name}_end"] = (batch, self.hidden)
        return {name: (shape, self.dtype) for name, shape in shapes.items()}

    def scratch_size(self, *bottom_shapes):
        steps, batch = bottom_shapes[0][:2]
        values = self.parts * self.hidden
        return (steps + 1) * batch * values + (len(self.states) + 2 * steps) * batch * self.hidden

    def arrays(self, x):
        """Parts of the scratch: dinput (T, N, parts D), its sum over T, a diff of each state, and two of all steps."""
        steps, batch = x.shape[:2]
        values, state = self.parts * self.hidden, (batch, self.hidden)
        shapes: list[Shape] = [(steps, batch, values), (batch, values), *[state] * len(self.states)]
        shapes += [(steps, *state)] * 2
        at = 0
        for shape in shapes:
            yield self.scratch[at : at + count(shape)].reshape(shape)
            at += count(shape)

    def flops(self, bottom_shapes, top_shapes):
        steps, batch = bottom_shapes[0][:2]
        each = steps * batch * (self.values + self.hidden) + batch * self.static_values
        return self.parts * self.hidden * each

    def learnt(self):
        """The weights of the input, its bias, the static weights or None, and those of h."""
        return [self.params.get(name) for name in self.names]

    def forward(self, bottom, top):
        (x, cont), y = bottom[:2], top[0]
        steps, batch = x.shape[:2]
        weight, bias, static, recurrent = self.learnt()
        inputs, before = self.state["input"], self.state["before"]
        rows = inputs.reshape(steps * batch, self.parts * self.hidden)
        for i, name in enumerate(self.states):
            if self.exposed:
                self.state[f"{name}_begin"][...] = bottom[len(bottom) - self.exposed + i].data[0]
            elif not self.repeats:
                self.state[f"{name}_begin"][...] = self.state[f"{name}_end"]
        self.device.gemm(
            x.data.reshape(len(rows), self.values), weight.data, rows, transpose_b=True
        )  # (T N, K) @ (K, M)
        B.shift(rows, bias.data, rows, bias.count, 1)
        if static:
            _, each, *_ = self.arrays(x)
            values = bottom[2].data.reshape(batch, self.static_values)
            self.device.gemm(values, static.data, each, transpose_b=True)  # (N, K) @ (K, M)
            B.shift(rows, each, rows, each.size, 1)
        h = self.state["h_begin"]
        for t in range(steps):
            K.continue_state(h, cont.data[t], before[t], self.hidden)
            self.device.gemm(before[t], recurrent.data, inputs[t], transpose_b=True, beta=1.0)  # (N, D) @ (D, M)
            h = self.step_forward(t, cont.data[t], y)
        self.after_steps(y, h)
        for name, last in zip(self.states, top[1:], strict=False):
            last.data[0] = self.state[f"{name}_end"]

    def backward(self, bottom, top):
        (x, cont), y = bottom[:2], top[0]
        steps, batch = x.shape[:2]
        weight, bias, static, recurrent = self.learnt()
        dinput, each, *rest = self.arrays(x)
        diffs, spare = rest[: len(self.states)], rest[len(self.states) :]
        for diff in diffs:
            diff.fill(0)
        dh = self.before_steps(y, spare)
        for t in reversed(range(steps)):
            self.step_backward(t, cont.data[t], None if dh is None else dh[t], diffs, dinput[t])
            self.device.gemm(dinput[t], recurrent.data, diffs[0])  # (N, M) @ (M, D)
            K.continue_state(diffs[0], cont.data[t], diffs[0], self.hidden)
        rows = dinput.reshape(steps * batch, self.parts * self.hidden)
        values, before = x.data.reshape(len(rows), self.values), self.state["before"].reshape(len(rows), self.hidden)
        if weight.needs_diff:
            self.device.gemm(rows, values, weight.diff, transpose_a=True, beta=1.0)  # (M, T N) @ (T N, K)
        if bias.needs_diff:
            B.sum_columns(rows, bias.diff, len(rows), bias.count, True)
        if recurrent.needs_diff:
            self.device.gemm(rows, before, recurrent.diff, transpose_a=True, beta=1.0)  # (M, T N) @ (T N, D)
        if x.needs_diff:
            self.device.gemm(rows, weight.data, x.diff.reshape(values.shape))  # (T N, M) @ (M, K)
        if static and (static.needs_diff or bottom[2].needs_diff):
            B.sum_columns(rows, each, steps, each.size, False)
            s = bottom[2]
            if static.needs_diff:
                values = s.data.reshape(batch, self.static_values)
                self.device.gemm(each, values, static.diff, transpose_a=True, beta=1.0)  # (M, N) @ (N, K)
            if s.needs_diff:
                self.device.gemm(each, static.data, s.diff.reshape(batch, self.static_values))  # (N, M) @ (M, K)
        for i, diff in enumerate(diffs):
            first = bottom[len(bottom) - self.exposed + i] if self.exposed else None
            if first is not None and first.needs_diff:
                first.diff[0] = diff

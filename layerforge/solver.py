"""The solver: a net, a rule by which it moves, and when to test, display and snapshot.

One iteration, in Caffe's order: clear the parameter diffs; test where `test_interval` says; forward and backward
`iter_size` times; display; update; count; snapshot.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import debug_info, files, forks, policies, rules, schema, snapshot, upgrade, weights
from .errors import DefinitionError, NotFiniteError, Problems, ShapeError, SnapshotError, number, times
from .iteration import Iteration
from .layer import TEST, TRAIN, choose_seed
from .logs import FOR_PARSERS
from .net import Net, as_definition

log = logging.getLogger("layerforge.solver")

#: What a signal or a callback may ask for between two iterations.
CONTINUE, STOP, SNAPSHOT = "none", "stop", "snapshot"

#: The fields by which a solver names or holds the net it trains.
NET_FIELDS = ("net", "net_param", "train_net", "train_net_param")

#: The least value of fields that count something.
LEAST = {
    "average_loss": 1,
    "display": 0,
    "iter_size": 1,
    "max_iter": 0,
    "snapshot": 0,
    "test_interval": 0,
    "test_iter": 0,
}


class Solver:
    """Trains a net as a SolverParameter says.

    ``definition`` is the path of a solver prototxt, a `schema.Definition` or a message. ``seed`` takes the place of
    `random_seed`; where neither is given, one is drawn: `seed` is the one in use. ``level`` and ``stages`` join those
    of `train_state`. With ``reuse``, the nets reuse memory: blobs that nobody looked at before can then not be looked
    at after an iteration, because the weights have changed since (see `layerforge.storage`). ``blocks`` is `Net`'s.

    `solver_mode` and `device_id` are for the command line, as in Caffe; `layer_wise_reduce` is for several devices.

    `iter`, `net`, `test_nets`, `step`, `solve`, `restore`, `snapshot`, `apply_update` and `lr` are pycaffe's.
    """

    def __init__(
        self,
        definition: Any,
        *,
        device: Any = None,
        dtype: Any = np.float32,
        seed: int | None = None,
        level: int = 0,
        stages: Iterable[str] = (),
        reuse: bool = False,
        blocks: bool = True,
    ):
        self.definition = upgrade.solver(as_definition(definition, "SolverParameter"))
        self.param = self.definition.message
        check(self.definition).raise_any()
        forks.warn([self.definition])
        self.seed = choose_seed(self.param.random_seed if seed is None else seed)
        self.iter = 0
        self.loss = math.nan
        self._losses: deque[float] = deque(maxlen=max(1, self.param.average_loss))
        self._told_later: list[Callable[[], None]] = []
        self._on_start: list[Callable[[], None]] = []
        self._on_gradients_ready: list[Callable[[], None]] = []
        self.requested: Callable[[], str] = lambda: CONTINUE  # asked between iterations, and between test batches
        self.observers: list[Any] = []
        self.last_snapshot: snapshot.Names | None = None
        self._before_tests: dict[str, Any] | None = None
        self.test_last = False  # test at the end of `solve`, whatever test_interval says
        self.scores: dict[str, np.ndarray] = {}  # of the last test: the mean of each output
        train, *tests = net_plans(self.definition, level, stages)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "reuse": reuse, "blocks": blocks}
        self.net = Net(net_definition(self.definition, train), seed=self.seed, **options)
        self.rule = rules.rule_class(self.definition)(self.param, self.net)
        self.iteration = Iteration(self.net, self.rule) if self.net.device.records else None
        self.test_nets = [
            Net(net_definition(self.definition, plan), seed=self.seed + 1 + i, share_with=self.net, **options)
            for i, plan in enumerate(tests)
        ]
        for net in self.test_nets:
            net.debug_info = self.param.debug_info
        self._load_weights()
        self._mark = (time.perf_counter(), 0)

    def _load_weights(self) -> None:
        """Takes what `weights` names, into test nets as well where they have layers of their own."""
        for index, entry in enumerate(self.param.weights):
            place = self.definition.place("weights", index)
            for path in weights.paths(entry):
                log.info("Finetuning from %s", path)
                try:
                    log.info("%s", self.net.copy_from(path))
                    for net in self.test_nets:
                        weights.load_made(net, path)
                except SnapshotError as error:
                    if error.place or place.line is None:
                        raise
                    raise SnapshotError(error.message, place) from None

    # What it is asked.

    @property
    def lr(self) -> float:
        """The learning rate of the coming update."""
        return policies.rate(self.param, self.iter)

    @property
    def current_step(self) -> int:
        """How many steps of the policy are taken, as solver states hold it."""
        return policies.steps_taken(self.param, self.iter)

    @property
    def snapshot_prefix(self) -> str:
        """Where snapshots go: see `prefix_of`."""
        return prefix_of(self.definition)

    def check_snapshot_prefix(self) -> None:
        """Writes and deletes a small file where snapshots will go. Raises SnapshotError where that fails."""
        folder = Path(self.snapshot_prefix).parent
        snapshot.clear_left_over(self.snapshot_prefix)
        try:
            with files.atomic_path(f"{self.snapshot_prefix}_iter_0.tempfile"):
                pass
            Path(f"{self.snapshot_prefix}_iter_0.tempfile").unlink()
        except (SnapshotError, OSError) as error:
            cause = error.__cause__ or error
            why = getattr(cause, "strerror", None) or str(cause)
            raise SnapshotError(
                f'snapshot_prefix: "{self.snapshot_prefix}" cannot be written: {folder}: {why}.'
                " Make the folder, or choose another",
                self.definition.place("snapshot_prefix"),
            ) from None

    # Running.

    def step(self, iterations: int = 1) -> None:
        """Runs that many iterations, or fewer when a stop is asked for."""
        end = self.iter + iterations
        if self.param.snapshot:
            self.check_snapshot_prefix()
        self._mark = (time.perf_counter(), self.iter)
        while self.iter < end:
            if not self._iterate():
                break
        self._tell()

    def _iterate(self) -> bool:
        p = self.param
        display = bool(p.display) and self.iter % p.display == 0
        self.net.debug_info = display and p.debug_info
        at_once = self._runs_at_once()
        if not at_once:
            self.net.clear_param_diffs()
        if p.test_interval and self.iter % p.test_interval == 0 and (self.iter > 0 or p.test_initialization):
            if not self.test_all():
                return False
        for callback in self._on_start:
            callback()
        loss = self._at_once() if at_once else sum(self._pass() for _ in range(p.iter_size)) / p.iter_size
        self._smooth(loss)
        if display:
            self._display()
        for callback in self._on_gradients_ready:
            callback()
        if at_once:
            self._tell_rate()
            self.iter += 1
        else:
            self.apply_update()
        for observer in self.observers:
            observer.iterated(self)
        asked = self.requested()
        if asked in (STOP, SNAPSHOT) or (p.snapshot and self.iter % p.snapshot == 0):
            self.snapshot()
        return asked != STOP

    def _pass(self) -> float:
        """Forward and backward. A loss that is no number is an error, before anything moves.

        On the CPU backward then does not run; elsewhere the loss is waited for while backward runs.
        """
        result = self.net.start_forward()
        later = not self.net.device.is_host
        if later:
            self.net.run_backward()
        loss = result()
        if not math.isfinite(loss):
            self._not_finite(loss)
        if not later:
            self.net.run_backward()
        return loss

    def _runs_at_once(self) -> bool:
        """Whether the coming iteration can be launched as a whole, its update with it."""
        one, alone = self.iteration, self.param.iter_size == 1 and not self._on_gradients_ready
        return one is not None and alone and one.possible

    def _at_once(self) -> float:
        """A whole iteration, but for counting it. A loss that is no number is an error, and nothing has moved."""
        assert self.iteration is not None
        self._tell()  # of what the next one overwrites
        bound = self.param.clip_gradients
        loss = self.iteration.run(self.lr, 1.0, bound, self.iter)
        if not math.isfinite(loss):
            self._not_finite(loss)
        if bound >= 0:
            self._tell_clipping(bound)
        return loss

    def _smooth(self, loss: float) -> None:
        """Averages the loss over the last `average_loss` iterations. Unlike Caffe's, the window outlives a `step`."""
        self._losses.append(loss)
        self.loss = sum(self._losses) / len(self._losses)

    def _tell(self) -> None:
        """Logs what the device had not computed yet when it was launched."""
        for each in self._told_later:
            each()
        self._told_later.clear()

    def apply_update(self) -> None:
        """Moves the parameters by the diffs that are there: clipped, averaged, regularised, at the current rate.

        It counts as an iteration. The norm that `clip_gradients` bounds is that of the sums over `iter_size` batches,
        as in Caffe.
        """
        p, rate = self.param, self.lr
        self._tell()
        self.net.mirrors.send()
        self._tell_rate()
        scale: Any = 1.0 / p.iter_size
        if p.clip_gradients >= 0:
            scale = self.rule.clip(p.clip_gradients, scale)
            self._tell_clipping(p.clip_gradients)
            if self.net.device.is_host:
                self._tell()
        before = debug_info.copy_parameters(self.net) if self.net.debug_info else None
        self.rule.sweep(rate, scale, self.iter)
        if before is not None:
            debug_info.after_update(self.net, before)
        self.iter += 1

    def _tell_rate(self) -> None:
        if self.param.display and self.iter % self.param.display == 0:
            log.info("Iteration %d, lr = %.6g", self.iter, self.lr, extra=FOR_PARSERS)

    def _tell_clipping(self, bound: float) -> None:
        rule = self.rule
        self._told_later.append(lambda: log_clipping(rule.clipped(), bound))

    def solve(self, resume_file: Any = None, *, end: int | None = None) -> None:
        """Trains up to `max_iter`: restores first where a state is given, and ends with a snapshot and a last test.

        With ``end`` it stops at that iteration, and nothing else of the recipe changes. The last test is made where
        `test_interval` says, as in Caffe, or anyway with `test_last`.
        """
        p = self.param
        if end is None and not p.HasField("max_iter"):
            raise DefinitionError("max_iter is not given. Write max_iter: 1000, say", self.definition.place())
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", p.lr_policy or "fixed", extra=FOR_PARSERS)
        if p.snapshot or p.snapshot_after_train:
            self.check_snapshot_prefix()
        if resume_file:
            self.restore(resume_file)
        self._mark = (time.perf_counter(), self.iter)
        stopped = False
        end = p.max_iter if end is None else end
        while self.iter < end:
            if not self._iterate():
                stopped = True
                break
        self._tell()
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot or stopped) and not self._just_taken():
            self.snapshot()
        if stopped:
            log.info("Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            self._smooth(self.net.run_forward())
            log.info("Iteration %d, loss = %.6g", self.iter, self.loss)
        if p.test_interval and (self.test_last or self.iter % p.test_interval == 0):
            self.test_all()
        log.info("Optimization Done.")

    def _just_taken(self) -> bool:
        last = self.last_snapshot
        match = snapshot.STATE.match(last.state.name) if last is not None else None
        return match is not None and int(match["iter"]) == self.iter

    def _display(self) -> None:
        now, since = time.perf_counter(), self._mark
        done, seconds = self.iter - since[1], now - since[0]
        speed = done / seconds if seconds > 0 and done else 0.0
        log.info(
            "Iteration %d (%.6g iter/s, %.6gs/%d iters), loss = %.6g",
            self.iter,
            speed,
            seconds,
            self.param.display,
            self.loss,
        )
        self._mark = (now, self.iter)
        loss_weights = self.net.blob_loss_weights
        known = FOR_PARSERS if list(map(loss_weights.get, self.net.outputs)) == [1.0] else None  # it is the loss
        values = {name: self.net.look(name, "data") for name in self.net.outputs}
        for line in output_lines("Train", values, loss_weights):
            log.info("%s", line, extra=known)

    def _not_finite(self, loss: float) -> None:
        found = self.net.first_not_finite()
        where = (
            f'The first layer whose output is not finite is {found[0].title}, top "{found[1].name}"'
            if found
            else "Every output is finite, so it comes from a loss_weight"
        )
        place = found[0].definition.place() if found else None
        kept = f"; the last good snapshot is {self.last_snapshot.state}" if self.last_snapshot else ""
        raise NotFiniteError(
            f"iteration {self.iter}: the loss is {loss:g}. {where}. Lower base_lr (the rate is {self.lr:g}), set"
            f" clip_gradients, or look for such values in the data{kept}",
            place,
        )

    def test_all(self) -> bool:
        """Tests every test net. Returns False when a stop was asked for meanwhile."""
        self._before_tests = self.memory()
        try:
            return all(self.test(i) for i in range(len(self.test_nets)))
        finally:
            self._before_tests = None

    def test(self, index: int = 0) -> bool:
        """Runs `test_iter` batches of a test net and logs the mean of every output over them."""
        log.info("Iteration %d, Testing net (#%d)", self.iter, index)
        net = self.test_nets[index]
        batches = self.param.test_iter[index]
        sums: dict[str, np.ndarray] = {}
        loss = 0.0
        for batch in range(batches):
            asked = self.requested()
            if asked in (SNAPSHOT, STOP) and not self._just_taken():
                self.snapshot()
            if asked == STOP:
                log.info("Test interrupted.")
                return False
            loss += net.run_forward()
            for name in net.outputs:
                value = net.device.to_numpy(net.views[name].data)
                total = sums.setdefault(name, np.zeros(value.shape))
                if value.shape != total.shape:
                    raise ShapeError(
                        f'output "{name}" of test net #{index} has shape {value.shape} in batch {batch}, and had'
                        f" {total.shape}: their mean needs one shape. Let a Silence layer read it to leave it out"
                    )
                total += value
            for observer in self.observers:
                observer.tested(self, index, batch + 1, batches)
        if not batches:
            return True
        if self.param.test_compute_loss:
            log.info("Test loss: %.6g", loss / batches)
        self.scores = {name: total / batches for name, total in sums.items()}
        for line in output_lines("Test", self.scores, net.blob_loss_weights):
            log.info("%s", line)
        return True

    # Snapshots.

    def snapshot(self) -> snapshot.Names:
        """Writes weights, solver state and sidecar; see `layerforge.snapshot`."""
        kind = "HDF5" if self.param.snapshot_format == 0 else "binary proto"
        stem = f"{self.snapshot_prefix}_iter_{self.iter}"
        names = snapshot.Names.of(stem, kind == "HDF5")
        log.info("Snapshotting to %s file %s", kind, names.model)
        log.info("Snapshotting solver state to %s file %s", kind, names.state, extra=FOR_PARSERS)
        self.net.mirrors.send()
        self.last_snapshot = snapshot.write(self)
        return names

    def memory(self) -> dict[str, Any]:
        """What a sidecar remembers, as JSON values. A run that is resumed makes the tests at hand from their begin."""
        return self._before_tests or {
            "seed": self.seed,
            "losses": list(self._losses),
            "nets": [
                {
                    "step": net.step,
                    "data": {node.layer.name: state for node in net.nodes if (state := node.layer.data_state())},
                }
                for net in (self.net, *self.test_nets)
            ],
        }

    def restore(self, path: Any) -> None:
        """Continues from a snapshot: LayerForge's, to the bit, or Caffe's.

        ``path`` is a solverstate, or the caffemodel beside it. Raises SnapshotError where it does not fit this solver.
        """
        state_path = snapshot.state_of(path)
        record = snapshot.read_sidecar(state_path)
        if record is not None:
            snapshot.check_whole(state_path, record)
        state = snapshot.read_state(state_path)
        model = snapshot.find_model(state_path, state.learned_net)
        history = self.rule.history()
        if len(state.history) != len(history):
            raise SnapshotError(
                f"{state_path}: it holds {len(state.history)} history arrays, a solver of type {self.param.type} has"
                f" {len(history)} for this net. Resume with the solver and the net that wrote it"
            )
        for i, (mine, theirs) in enumerate(zip(history, state.history, strict=True)):
            if mine.size != theirs.size:
                raise SnapshotError(
                    f"{state_path}: history array {i} has shape {theirs.shape}, {self._parameter_title(i)} of this net"
                    f" has {mine.shape}. Resume with the net that wrote it"
                )
        log.info("Restoring previous solver status from %s", state_path)
        report = self.net.copy_from(model)
        if report.missing or report.unused:
            log.warning("%s", report)
        self.rule.set_history(state.history)
        self.iter = state.iter
        self._losses.clear()
        hdf5 = state_path.name.endswith(".h5")
        names = snapshot.Names.of(f"{self.snapshot_prefix}_iter_{self.iter}", hdf5)
        if names.state == state_path:
            self.last_snapshot = names
        if record is not None and record["iter"] == state.iter:
            self._recall(record)
        else:
            passes = self.iter * self.param.iter_size
            self.net.step = passes - 1
            for node in self.net.nodes:
                node.layer.skip(passes)
        self._mark = (time.perf_counter(), self.iter)

    def _parameter_title(self, index: int) -> str:
        """The parameter that a history array belongs to, for messages."""
        parameter = self.net.arena.owned[index % len(self.net.arena.owned)]
        node = next(node for node in self.net.nodes if any(own is parameter for own in node.layer.blobs))
        return f'parameter "{parameter.name}" of {node.layer.title}'

    def _recall(self, record: dict[str, Any]) -> None:
        """Puts seeds, passes and sources where a sidecar says."""
        self.seed = record["seed"]
        self._losses.extend(record["losses"])
        for i, (net, known) in enumerate(zip((self.net, *self.test_nets), record["nets"], strict=False)):
            net.seed = self.seed + i
            net.step = known["step"]
            for made in (node.layer for node in net.nodes):
                made.seed = net.seed
                if made.name in known["data"]:
                    made.set_data_state(known["data"][made.name])

    # pycaffe's.

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Calls the first before each iteration's forward pass, the second before each update."""
        self._on_start.append(on_start)
        self._on_gradients_ready.append(on_gradients_ready)

    def share_weights(self, net: Net) -> None:
        """Gives this solver's parameters to another net."""
        net.share_with(self.net)

    def close(self) -> None:
        """Stops the threads of all data layers."""
        for net in (self.net, *self.test_nets):
            net.close()


def check(definition: schema.Definition) -> Problems:
    """What is wrong with a solver, whatever its nets are."""
    problems = Problems()

    def wrong(message: str, *field: Any) -> None:
        problems.add(DefinitionError(message, definition.place(*field)))

    policies.check(definition, problems)
    try:
        rules.rule_class(definition).check(definition, problems)
    except DefinitionError as error:
        problems.add(error)
    p = definition.message
    kind = p.regularization_type
    if kind not in ("L1", "L2"):
        wrong(f'unknown regularization_type "{kind}": there are L1 and L2', "regularization_type")
    for field, least in LEAST.items():
        for i, value in enumerate(getattr(p, field) if field == "test_iter" else [getattr(p, field)]):
            if value < least:
                wrong(f"{field}: {value} must be at least {least}", field, i)
    given = [name for name in NET_FIELDS if p.HasField(name)]
    if len(given) != 1:
        said = f"{' and '.join(given)} are given" if given else "none of them is given"
        wrong(f"a solver names the net it trains by exactly one of {', '.join(NET_FIELDS)}: {said}", *given[-1:])
    named = len(p.test_net) + len(p.test_net_param)
    shared = p.HasField("net") or p.HasField("net_param")
    tests = len(p.test_iter)
    if tests < named or (tests > named > 0 and not shared):
        said = f"given {times(tests)}" if tests else "not given"
        wrong(f"test_iter is {said} for {number(named, 'test net')}: give one for each", "test_iter")
    elif tests and not named and not shared:
        wrong(f"test_iter is given {times(tests)}, but there is no test net: write test_net", "test_iter")
    if tests and p.test_interval <= 0:
        wrong("test_iter is given, but no test_interval: say how often to test", "test_iter")
    if p.test_state and len(p.test_state) != tests:
        wrong(
            f"test_state is given {times(len(p.test_state))} for {number(tests, 'test net')}: give one for each, or"
            " none",
            "test_state",
        )
    return problems


@dataclass(frozen=True)
class NetPlan:
    """A net of a solver: the field (and index) that names or holds it, and the state it is made for.

    ``states`` are NetStates that have precedence over the net's own, the later over the earlier.
    """

    field: str
    index: int | None
    phase: int
    states: tuple[Any, ...] = ()
    level: int = 0
    stages: tuple[str, ...] = ()


def net_plans(definition: schema.Definition, level: int = 0, stages: Iterable[str] = ()) -> list[NetPlan]:
    """The nets of a solver that `check` accepts: the train net, then the test nets.

    ``level``, where it is not 0, goes before that of its train_state; ``stages`` join those there.
    """
    p = definition.message
    field = next(f for f in NET_FIELDS if p.HasField(f))
    plans = [NetPlan(field, None, TRAIN, (p.train_state,), level, tuple(stages))]
    sources: list[tuple[str, int | None]] = [("test_net_param", i) for i in range(len(p.test_net_param))]
    sources += [("test_net", i) for i in range(len(p.test_net))]
    if field in ("net", "net_param"):
        sources += [(field, None)] * (len(p.test_iter) - len(sources))
    for i, (field, index) in enumerate(sources):
        plans.append(NetPlan(field, index, TEST, tuple(p.test_state[i : i + 1])))
    return plans


def net_definition(definition: schema.Definition, plan: NetPlan) -> schema.Definition:
    """The net that a solver names or holds, its ``state`` as the plan says. DefinitionError where there is no file.

    The state is, in Caffe's order of precedence, the lowest first: the phase, the net's own, train_state or test_state,
    level and stages.
    """
    if plan.field.endswith("_param"):
        found = definition.child(plan.field, plan.index or 0)
    else:
        value = getattr(definition.message, plan.field)
        name = value if plan.index is None else value[plan.index]
        path = files.find(name, definition.file)
        if path is None:
            place = definition.place(plan.field, *([] if plan.index is None else [plan.index]))
            raise DefinitionError(files.missing("net", name, definition.file), place)
        found = schema.read(path, "NetParameter")
    message = type(found.message)()
    message.CopyFrom(found.message)
    message.ClearField("state")
    message.state.phase = plan.phase
    for state in (found.message.state, *plan.states):
        message.state.MergeFrom(state)
    if plan.level:
        message.state.level = plan.level
    message.state.stage.extend(plan.stages)
    return found.replace(message)


def log_clipping(norm: float, bound: float) -> None:
    """Caffe's line about gradients that were clipped."""
    if norm > bound:
        log.info(
            "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
            norm,
            bound,
            bound / norm,
        )


def output_lines(kind: str, values: Mapping[str, np.ndarray], loss_weights: Mapping[str, float]) -> Iterator[str]:
    """Caffe's log lines for the outputs of a net: ``    Test net output #0: accuracy = 0.9``."""
    index = 0
    for name, array in values.items():
        weight = loss_weights[name]
        for value in array.reshape(-1).tolist():
            also = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            yield f"    {kind} net output #{index}: {name} = {value:.6g}{also}"
            index += 1


def prefix_of(definition: schema.Definition) -> str:
    """Where a solver's snapshots go: as given; in a folder, or without one, named after the solver's file."""
    given = definition.message.snapshot_prefix
    file = Path(definition.file or "solver.prototxt")
    if not given:
        return str(file.with_suffix(""))
    return str(Path(given) / file.stem) if Path(given).is_dir() else given


def get_solver(definition: Any, **options: Any) -> Solver:
    """A solver from the path of its prototxt, as pycaffe's ``get_solver``. For ``options`` see `Solver`."""
    return Solver(definition, **options)

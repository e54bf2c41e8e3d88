"""The solver: a net, a rule by which it moves, and when to test, display and snapshot.

One iteration, in Caffe's order: clear the parameter diffs; test where `test_interval` says; forward and backward
`iter_size` times; display; update; count; snapshot.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import files, policies, rules, schema, snapshot, upgrade
from .errors import DefinitionError, NotFiniteError, Place, Problems, SnapshotError
from .layer import TEST, TRAIN, choose_seed
from .logs import FOR_PARSERS
from .net import Net, as_definition

log = logging.getLogger("layerforge.solver")

#: What a signal or a callback may ask for between two iterations.
CONTINUE, STOP, SNAPSHOT = "none", "stop", "snapshot"

#: The fields by which a solver names or holds the net it trains.
NET_FIELDS = ("net", "net_param", "train_net", "train_net_param")


class Solver:
    """Trains a net as a SolverParameter says.

    ``definition`` is the path of a solver prototxt, a `schema.Definition` or a message. ``overrides`` are changes of
    its fields, as of ``--set``. ``seed`` takes the place of `random_seed`; where neither is given, one is drawn and
    logged.

    `iter`, `net`, `test_nets`, `step`, `solve`, `restore` and `snapshot` are pycaffe's.
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
        reuse: bool = True,
    ):
        self.definition = upgrade.solver(as_definition(definition, "SolverParameter"))
        self.param = self.definition.message
        check(self.definition).raise_any()
        random_seed = self.param.random_seed if seed is None else seed
        self.seed = choose_seed(random_seed)
        self._net_options: dict[str, Any] = {"device": device, "dtype": dtype, "reuse": reuse}
        self._level, self._stages = level, tuple(stages)
        self.iter = 0
        self.loss = math.nan
        self._losses: deque[float] = deque(maxlen=max(1, self.param.average_loss))
        self._on_start: list[Callable[[], None]] = []
        self._on_gradients_ready: list[Callable[[], None]] = []
        self.requested: Callable[[], str] = lambda: CONTINUE  # asked between iterations, and between test batches
        self.observers: list[Any] = []
        self.last_snapshot: snapshot.Names | None = None
        self._before_tests: dict[str, Any] | None = None
        self.test_last = False  # test at the end of `solve`, whatever test_interval says
        self.net = self._train_net()
        self.net.arena.parameter_diffs()
        self.rule = rules.rule_class(self.definition)(self.param, self.net)
        self.test_nets = self._make_test_nets()
        for path in self.param.weights:
            for one in path.split(","):
                log.info("%s", self.net.copy_from(one))
        self._mark = (time.perf_counter(), 0)

    # Building.

    def _place(self, *field: Any) -> Place:
        return self.definition.place(*field)

    def _train_net(self) -> Net:
        plan = net_plans(self.definition, self._level, self._stages)[0]
        return self._make_net(plan, self.seed)

    def _make_test_nets(self) -> list[Net]:
        plans = net_plans(self.definition)[1:]
        return [self._make_net(plan, self.seed + 1 + i, share_with=self.net) for i, plan in enumerate(plans)]

    def _make_net(self, plan: NetPlan, seed: int, **options: Any) -> Net:
        source = net_definition(self.definition, plan)
        return Net(source, plan.phase, plan.level, plan.stages, seed=seed, **options, **self._net_options)

    # What it is asked.

    @property
    def lr(self) -> float:
        """The learning rate of the coming update."""
        return policies.rate(self.param, self.iter)

    @property
    def current_step(self) -> int:
        """How many steps of the policy are taken, as solver states hold it."""
        if self.param.lr_policy == "step":
            return self.iter // self.param.stepsize
        return policies.steps_taken(self.param, self.iter) if self.param.lr_policy == "multistep" else 0

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
                self._place("snapshot_prefix"),
            ) from None

    # Running.

    def step(self, iterations: int = 1) -> None:
        """Runs that many iterations, or fewer when a stop is asked for."""
        end = self.iter + iterations
        self._mark = (time.perf_counter(), self.iter)
        while self.iter < end:
            if not self._iterate():
                break

    def _iterate(self) -> bool:
        p = self.param
        self.net.clear_param_diffs()
        if p.test_interval and self.iter % p.test_interval == 0 and (self.iter > 0 or p.test_initialization):
            if not self.test_all():
                return False
        for callback in self._on_start:
            callback()
        loss = sum(self.net.forward_backward() for _ in range(p.iter_size)) / p.iter_size
        if not math.isfinite(loss):
            self._not_finite(loss)
        self._losses.append(loss)
        self.loss = sum(self._losses) / len(self._losses)
        if p.display and self.iter % p.display == 0:
            self._display()
        for callback in self._on_gradients_ready:
            callback()
        self.apply_update()
        self.iter += 1
        for observer in self.observers:
            observer.iterated(self)
        asked = self.requested()
        if asked in (STOP, SNAPSHOT) or (p.snapshot and self.iter % p.snapshot == 0):
            self.snapshot()
        return asked != STOP

    def apply_update(self) -> None:
        """Moves the parameters by the diffs that are there: clipped, averaged, regularised, at the current rate."""
        scale = 1.0 / self.param.iter_size
        limit = self.param.clip_gradients
        if limit >= 0:
            norm = math.sqrt(rules.sum_of_squares(self.net))
            if norm > limit:
                log.info(
                    "Gradient clipping: scaling down gradients (L2 norm %g > %g) by scale factor %g",
                    norm,
                    limit,
                    limit / norm,
                )
                scale *= limit / norm
        self.rule.sweep(self.lr, scale, self.iter)

    def solve(self, resume_file: Any = None, *, end: int | None = None) -> None:
        """Trains up to `max_iter`: restores first where a state is given, and ends with a snapshot and a last test.

        With ``end`` it stops at that iteration, and nothing else of the recipe changes. The last test is made where
        `test_interval` says, as in Caffe, or anyway with `test_last`.
        """
        p = self.param
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
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot or stopped) and not self._just_taken():
            self.snapshot()
        if stopped:
            log.info("Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            loss = self.net.run_forward()
            self._losses.append(loss)
            self.loss = sum(self._losses) / len(self._losses)
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
        index = 0
        loss_weights = self.net.blob_loss_weights
        known = FOR_PARSERS if list(map(loss_weights.get, self.net.outputs)) == [1.0] else None  # it is the loss
        for name in self.net.outputs:
            weight = loss_weights[name]
            for value in self.net.blobs[name].data.reshape(-1).tolist():
                also = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                log.info("    Train net output #%d: %s = %.6g%s", index, name, value, also, extra=known)
                index += 1
        log.info("Iteration %d, lr = %.6g", self.iter, self.lr, extra=FOR_PARSERS)

    def _not_finite(self, loss: float) -> None:
        found = self.net.first_not_finite()
        where = (
            f'The first layer whose output is not finite is {found[0].title}, top "{found[1].name}"'
            if found
            else "Every output is finite, so the loss itself overflowed"
        )
        place = found[0].definition.place() if found else None
        kept = f"; the last good snapshot is {self.last_snapshot.state}" if self.last_snapshot else ""
        raise NotFiniteError(
            f"iteration {self.iter}: the loss is {loss:g}. {where}. Lower base_lr (the rate is {self.lr:g}),"
            f" clip_gradients,"
            f" or look for such values in the data{kept}",
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
                value = net.device.to_numpy(net._views[name].data).astype(np.float64)
                sums[name] = sums[name] + value if name in sums else value
            for observer in self.observers:
                observer.tested(self, index, batch + 1, batches)
        if self.param.test_compute_loss:
            log.info("Test loss: %.6g", loss / batches)
        loss_weights = net.blob_loss_weights
        k = 0
        self.scores = {name: total / batches for name, total in sums.items()}
        for name, mean in self.scores.items():
            weight = loss_weights[name]
            for value in mean.reshape(-1).tolist():
                also = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                log.info("    Test net output #%d: %s = %.6g%s", k, name, value, also)
                k += 1
        return True

    # Snapshots.

    def snapshot(self) -> snapshot.Names:
        """Writes weights, solver state and sidecar; see `layerforge.snapshot`."""
        kind = "HDF5" if self.param.snapshot_format == 0 else "binary proto"
        stem = f"{self.snapshot_prefix}_iter_{self.iter}"
        names = snapshot.Names.of(stem, kind == "HDF5")
        log.info("Snapshotting to %s file %s", kind, names.model)
        log.info("Snapshotting solver state to %s file %s", kind, names.state, extra=FOR_PARSERS)
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
                    "data": {node.layer.name: node.layer.data_state() for node in net.nodes if not node.bottom},
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
        self.net.copy_from(model)
        for mine, theirs in zip(history, state.history, strict=True):
            mine[...] = np.asarray(theirs).reshape(mine.shape)
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
        segments = self.net.arena.segments
        parameter = segments[index % len(segments)][2]
        node = next(node for node in self.net.nodes if any(p is parameter for p in node.layer.blobs))
        return f'parameter "{parameter.name}" of {node.layer.title}'

    def _recall(self, record: dict[str, Any]) -> None:
        self.seed = record["seed"]
        self._losses.extend(record["losses"])
        for i, (net, known) in enumerate(zip((self.net, *self.test_nets), record["nets"], strict=False)):
            net.seed = self.seed + i
            net.step = known["step"]
            for node in net.nodes:
                node.layer.seed = net.seed
                if node.layer.name in known["data"]:
                    node.layer.set_data_state(known["data"][node.layer.name])

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
    if p.iter_size < 1:
        wrong(f"iter_size: {p.iter_size} must be at least 1", "iter_size")
    given = [name for name in NET_FIELDS if p.HasField(name)]
    if len(given) != 1:
        said = f"{' and '.join(given)} are given" if given else "none of them is given"
        wrong(f"a solver names the net it trains by exactly one of {', '.join(NET_FIELDS)}: {said}", *given[-1:])
    named = len(p.test_net) + len(p.test_net_param)
    shared = p.HasField("net") or p.HasField("net_param")
    tests = len(p.test_iter)
    if tests < named or (tests > named > 0 and not shared):
        wrong(f"test_iter is given {tests} times for {named} test nets: give one for each", "test_iter")
    if tests and p.test_interval <= 0:
        wrong("test_iter is given, but no test_interval: say how often to test", "test_iter")
    if p.test_state and len(p.test_state) != tests:
        wrong(
            f"test_state is given {len(p.test_state)} times for {tests} test nets: give one for each, or none",
            "test_state",
        )
    return problems


@dataclass(frozen=True)
class NetPlan:
    """A net of a solver: the field (and index) that names or holds it, and the state it is made for."""

    field: str
    index: int | None
    phase: int
    level: int = 0
    stages: tuple[str, ...] = ()


def net_plans(definition: schema.Definition, level: int = 0, stages: Iterable[str] = ()) -> list[NetPlan]:
    """The nets of a solver that `check` accepts: the train net, then the test nets.

    ``level`` and ``stages`` go before those of its train_state.
    """
    p = definition.message
    field = next(f for f in NET_FIELDS if p.HasField(f))
    state = p.train_state
    plans = [NetPlan(field, None, TRAIN, level or state.level, tuple(stages) or tuple(state.stage))]
    sources: list[tuple[str, int | None]] = [("test_net_param", i) for i in range(len(p.test_net_param))]
    sources += [("test_net", i) for i in range(len(p.test_net))]
    if field in ("net", "net_param"):
        sources += [(field, None)] * (len(p.test_iter) - len(sources))
    for i, (field, index) in enumerate(sources):
        state = p.test_state[i] if i < len(p.test_state) else None
        plans.append(NetPlan(field, index, TEST, state.level if state else 0, tuple(state.stage) if state else ()))
    return plans


def net_definition(definition: schema.Definition, plan: NetPlan) -> schema.Definition:
    """The net that a solver names or holds. Raises DefinitionError where there is no such file."""
    if plan.field.endswith("_param"):
        return definition.child(plan.field, plan.index or 0)
    value = getattr(definition.message, plan.field)
    path = value if plan.index is None else value[plan.index]
    found = files.find(path, definition.file)
    if found is None:
        place = definition.place(plan.field, *([] if plan.index is None else [plan.index]))
        raise DefinitionError(f'there is no net file "{path}"', place)
    return schema.read(found, "NetParameter")


def prefix_of(definition: schema.Definition) -> str:
    """Where a solver's snapshots go: as given; in a folder, or without one, named after the solver's file."""
    given = definition.message.snapshot_prefix
    file = Path(definition.file or "solver.prototxt")
    if not given:
        return str(file.with_suffix(""))
    return str(Path(given) / file.stem) if Path(given).is_dir() else given


def get_solver(definition: Any, **options: Any) -> Solver:
    """A solver from the path of its prototxt, as pycaffe's ``get_solver``."""
    return Solver(definition, **options)

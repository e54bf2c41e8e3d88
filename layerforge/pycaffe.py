"""pycaffe's names for what is global there: mode, device, seed, log, processes; and its solvers and timer.

Mode, device and seed only set what nets and solvers that are made later, and name nothing else, start from.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, ClassVar

from . import device, layer, logs, solver, upgrade
from .errors import DeviceError
from .layer import TEST, TRAIN, Layer
from .net import Net, as_definition
from .solver import Solver

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Layer",
    "Net",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]

_log = logging.getLogger("layerforge.pycaffe")


def set_mode_cpu() -> None:
    """Nets made from now on compute on the CPU, unless they name a device."""
    device.set_default("cpu")


def set_mode_gpu() -> None:
    """Nets made from now on compute on the GPU, unless they name a device. DeviceError where there is none."""
    device.set_default("gpu")


def set_device(number: int) -> None:
    """Chooses the GPU of nets made from now on, by its number. DeviceError where there is no such one."""
    device.set_default(f"gpu:{int(number)}")


def set_random_seed(seed: int) -> None:
    """Sets the seed of nets and solvers made from now on that name none."""
    layer.set_default_seed(seed)


def layer_type_list() -> list[str]:
    """The names of all layer types, those of users' own that are defined among them."""
    layer.load_layers()
    return sorted(layer.registry)


# The log.

_handler: logs.Handler | None = None


def init_log(level: int | None = None, stderr: bool = True) -> None:
    """Logs to stderr from now on, from glog's ``level`` up: 0 everything, 1 warnings, 2 errors.

    Without a level, GLOG_minloglevel says it. ``stderr=False`` ends that.
    """
    global _handler
    if _handler is not None:
        logs.stop(_handler)
        _handler = None
    if stderr:
        _handler = logs.start(sys.stderr)
        if level is not None:
            logs.ROOT.setLevel(logs.GLOG_LEVELS[min(max(level, 0), 3)])


def log(message: str) -> None:
    """Logs a line of a script's own, among those of nets and solvers."""
    _log.info("%s", message)


# Several processes: a run has one.


def has_nccl() -> bool:
    """Whether several GPUs can train one net: not here."""
    return False


def solver_count() -> int:
    """The number of solvers that train one net together."""
    return 1


def solver_rank() -> int:
    """Which of them this process is."""
    return 0


def set_solver_count(count: int) -> None:
    """Takes 1. Raises DeviceError for more."""
    if count != 1:
        raise DeviceError(f"solver_count: {count} solvers cannot train one net together; a run takes one device")


def set_solver_rank(rank: int) -> None:
    """Takes 0. Raises DeviceError for another one."""
    if rank != 0:
        raise DeviceError(f"solver_rank: {rank}: a run takes one device, so its only solver has rank 0")


def set_multiprocess(value: bool) -> None:
    """Changes nothing: nothing is shared between processes."""


NO_NCCL = "NCCL: several GPUs cannot train one net here. Train on one device: solver.solve(), or layerforge train"


class NCCL:
    """pycaffe's link between the GPUs of several processes. There is none here: to make one is a DeviceError."""

    def __init__(self, *args: Any) -> None:
        raise DeviceError(NO_NCCL)

    @staticmethod
    def new_uid() -> bytes:
        raise DeviceError(NO_NCCL)


class Timer:
    """A stopwatch: ``start()``, ``stop()``, and ``ms``, the milliseconds between them, or until now."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.until: float | None = None

    def start(self) -> None:
        """Begins at 0."""
        self.since, self.until = time.perf_counter(), None

    def stop(self) -> None:
        """Ends the measurement."""
        self.until = time.perf_counter()

    @property
    def ms(self) -> float:
        if self.since is None:
            return 0.0
        return ((self.until or time.perf_counter()) - self.since) * 1e3


# Solvers by their type.


class TypedSolver(solver.Solver):
    """A solver whose class, not the ``type`` in its prototxt, says by which rule it moves."""

    rule_type: ClassVar[str]

    def __init__(self, definition: Any, **options: Any):
        made = upgrade.solver(as_definition(definition, "SolverParameter"))
        message = type(made.message)()
        message.CopyFrom(made.message)
        if message.HasField("type") and message.type != self.rule_type:
            _log.warning("%s: type: %s has no effect.", type(self).__name__, message.type)
        message.type = self.rule_type
        super().__init__(made.replace(message), **options)


class SGDSolver(TypedSolver):
    """pycaffe's solver of type SGD."""

    rule_type = "SGD"


class NesterovSolver(TypedSolver):
    """pycaffe's solver of type Nesterov."""

    rule_type = "Nesterov"


class AdaGradSolver(TypedSolver):
    """pycaffe's solver of type AdaGrad."""

    rule_type = "AdaGrad"


class RMSPropSolver(TypedSolver):
    """pycaffe's solver of type RMSProp."""

    rule_type = "RMSProp"


class AdaDeltaSolver(TypedSolver):
    """pycaffe's solver of type AdaDelta."""

    rule_type = "AdaDelta"


class AdamSolver(TypedSolver):
    """pycaffe's solver of type Adam."""

    rule_type = "Adam"


def get_solver(definition: Any, **options: Any) -> Solver:
    """A solver from the path of its prototxt, or from a SolverParameter, of the class that its ``type`` names."""
    made = upgrade.solver(as_definition(definition, "SolverParameter"))
    kinds = {cls.rule_type: cls for cls in TypedSolver.__subclasses__()}
    return kinds.get(made.message.type, Solver)(made, **options)

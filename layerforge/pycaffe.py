"""pycaffe's names for things that are global there: the mode, the device, the seed, the list of types.

Here they only set what nets and solvers that are made later, and name nothing else, start from.
"""

from __future__ import annotations

from . import device, layer, solver


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
    """The names of all layer types, those of user's own that are defined among them."""
    layer.load_layers()
    return sorted(layer.registry)


class SGDSolver(solver.Solver):
    """pycaffe's solver of type SGD."""

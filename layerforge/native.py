"""The compiled part, `layerforge._csrc`, loaded with libgomp told how long its threads may spin.

Everything that needs it imports it from here: ``from .native import _csrc``.
"""

from __future__ import annotations

import os
from types import ModuleType

from .errors import KernelError

#: How often a thread of libgomp looks for work before it sleeps: some tens of microseconds, so that it is awake when
#: the next layer begins. By default it looks for milliseconds. Where the threads of a data layer, or anybody else, want
#: the cores too, each parallel region then waits for a core on which another one spins, and a step of a small net takes
#: ten times as long.
SPINS = "10000"


def _load() -> ModuleType:
    """Loads it. libgomp reads its environment then; what the user has set there stays."""
    chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        from . import _csrc
    except ImportError as error:
        raise KernelError(
            f"layerforge's compiled part cannot be loaded ({error}); build it with `pip install .` in the source folder"
        ) from error
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]
    return _csrc


_csrc = _load()

"""What holds for all tests: no user's files are touched, and children can be interrupted."""

import importlib.util
import os
import signal
import sys

import pytest

if "LAYERFORGE_EMULATED" in os.environ:  # see tests/sanitize/run
    spec = importlib.util.spec_from_file_location("layerforge._emulated", os.environ["LAYERFORGE_EMULATED"])
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def children_import_what_is_tested(tmp_path_factory):
    """`pytest` tests the installed package; a child started in the clone would find the unbuilt one there."""
    import layerforge

    here = os.path.dirname(os.path.dirname(os.path.abspath(layerforge.__file__)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", here, prepend=os.pathsep)
        patch.chdir(tmp_path_factory.getbasetemp())
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A run in the background of a shell ignores Ctrl-C, and so would the commands that tests start and interrupt."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def set_threads():
    """Sets the number of threads, and gives it; afterwards there are as many as before."""
    from layerforge import kernels

    before = kernels.get_threads()

    def set_to(number):
        kernels.set_threads(number)
        return number

    yield set_to
    kernels.set_threads(before)


@pytest.fixture(params=[1, 2, 5])
def threads(request, set_threads):
    """One thread, two, and more than many a test has work for."""
    return set_threads(request.param)

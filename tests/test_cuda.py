"""The GPU's device with a CuPy that is none: what it asks of CuPy, what it says when something is missing.

The kernels are compiled by the real NVRTC; the driver that launches them is played by the emulated device.
"""

import builtins
import contextlib
import ctypes
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from layerforge import cli, device, launch
from layerforge.device import cuda, emulated, libraries, nvrtc
from layerforge.device.base import Number
from layerforge.errors import DeviceError
from layerforge.kernels import Kernels, include_path

FACTS = {"name": b"Fake GPU", "multiProcessorCount": 2, "totalGlobalMem": 3 << 29}


class FakeError(Exception):
    pass


class Array(emulated.Array):
    """An array of the fake GPU."""

    device = SimpleNamespace(id=0)

    def get(self, stream):
        return self._memory.copy()

    def set(self, values, stream):
        assert isinstance(values, np.ndarray) and values.flags.c_contiguous
        self._memory[...] = values

    def __getitem__(self, index):
        return Array(np.asarray(self._memory[index]))

    def reshape(self, *shape):
        return Array(self._memory.reshape(*shape))


class FakeCupy:
    """As much of CuPy as the device uses: one GPU of 1 MiB."""

    ndarray = Array

    def __init__(self, version=13000, count=1, capability="90"):
        self.launched = []
        self.loaded = {}
        self.names = {}

        class Nothing:
            ptr = 77
            compute_capability = capability
            attributes = {"MultiProcessorCount": 2, "MaxThreadsPerMultiProcessor": 512}

            def __init__(self, *arguments, **options):
                pass

            def __getattr__(self, name):
                return lambda *arguments: None

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        def counted():
            if count is None:
                raise FakeError("cudaErrorNoDevice")
            return count

        cupy = self

        class Stream(Nothing):
            """Keeps launches while they are recorded, and the modes of records."""

            kept = None

            def begin_capture(self, mode):
                cupy.modes.append(mode)
                Stream.kept = []

            def end_capture(self):
                kept, Stream.kept = Stream.kept, None
                if cupy.broken:
                    raise FakeError("cudaErrorStreamCaptureInvalidated")
                return SimpleNamespace(launch=lambda stream: [each() for each in kept], upload=lambda stream: None)

        @contextlib.contextmanager
        def using_allocator(allocate):
            cupy.allocate = allocate
            yield
            cupy.allocate = None

        def copy(to, source, size, kind, stream):
            assert (kind in (1, 2), stream) == (True, 77)
            if Stream.kept is None:
                ctypes.memmove(to, source, size)
            else:
                Stream.kept.append(lambda: ctypes.memmove(to, source, size))

        class Pinned(bytearray):
            ptr = property(lambda self: np.frombuffer(self, np.uint8).ctypes.data)

        self.stream = Stream
        self.modes, self.broken, self.allocate = [], False, None
        self.cuda = SimpleNamespace(
            Device=Nothing, Stream=Stream, using_allocator=using_allocator, Event=Nothing, alloc_pinned_memory=Pinned,
            memory=SimpleNamespace(OutOfMemoryError=MemoryError),
            runtime=SimpleNamespace(
                runtimeGetVersion=lambda: version, getDeviceCount=counted, CUDARuntimeError=FakeError,
                streamCaptureModeThreadLocal=1, memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyAsync=copy,
                memGetInfo=lambda: (1 << 19, 1 << 20), getDeviceProperties=lambda number: FACTS,
            ),
            function=SimpleNamespace(Module=lambda: SimpleNamespace(load=self.load, get_function=self.find)),
            driver=SimpleNamespace(launchKernel=self.launch),
        )  # fmt: skip

    def zeros(self, shape, dtype):
        if self.allocate is not None:
            self.allocate(1)
        if np.prod(shape) * np.dtype(dtype).itemsize > 1 << 20:
            raise MemoryError
        return Array(np.zeros(shape, dtype))

    empty = zeros

    def asarray(self, values):
        return Array(values)

    def load(self, cubin):
        assert cubin[:4] == b"\x7fELF"

    def find(self, name):
        self.loaded[len(self.loaded) + 1] = self.names[name]
        return SimpleNamespace(ptr=len(self.loaded))

    def launch(self, function, blocks, y, z, *of_block):
        *threads, shared, stream, arguments, extra = of_block
        assert (y, z, np.prod(threads), shared, stream, extra) == (1, 1, 256, 0, 77, 0)
        key = self.loaded[function]
        self.launched.append((key, blocks, tuple(threads)))
        play = device.get("emulated").launch
        if self.stream.kept is None:
            play(SimpleNamespace(key=key, family=""), blocks, threads, arguments)
            return
        places = ctypes.cast(arguments, ctypes.POINTER(ctypes.c_void_p))[:4]  # as a graph does: the values, now
        kept = [ctypes.create_string_buffer(ctypes.string_at(place, 16), 16) for place in places]
        again = (ctypes.c_void_p * 4)(*(ctypes.addressof(each) for each in kept))
        self.stream.kept.append(
            lambda: (kept, play(SimpleNamespace(key=key, family=""), blocks, threads, ctypes.addressof(again)))
        )


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Puts a fake CuPy and a fake driver in place."""
    monkeypatch.setenv("LAYERFORGE_CACHE", str(tmp_path))
    monkeypatch.setattr(libraries, "driver", None)

    def put(driver=(13, 0), **options):
        cupy = FakeCupy(**options)
        monkeypatch.setattr(cuda, "driver_version", lambda: driver)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        compiled = cuda.compiled

        def remembered(form, architecture):
            program = compiled(form, architecture)
            cupy.names.update({program.names[name]: key for key, name in form.siblings().items()})
            return program

        monkeypatch.setattr(cuda, "compiled", remembered)
        return cupy

    monkeypatch.setattr(cuda, "GPUS", {})
    yield put
    device.homes.pop(Array, None)


def refusal(name="gpu"):
    with pytest.raises(DeviceError) as caught:
        device.get(name)
    return str(caught.value)


def test_no_driver(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("not there")))
    monkeypatch.setattr(cuda, "GPUS", {})
    assert refusal() == (
        'device "gpu": this machine has no NVIDIA driver (libcuda.so.1 is not there); install one, or use device "cpu"'
    )


def test_the_driver_s_version(monkeypatch):
    def get(place):
        place._obj.value = 12040

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=get))
    assert cuda.driver_version() == (12, 4)


def without(monkeypatch, error):
    real = builtins.__import__

    def fail(name, *arguments, **options):
        if name == "cupy":
            raise error
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)


@pytest.mark.parametrize("driver, extra", [((13, 0), "cuda13x"), ((12, 4), "cuda12x")])
def test_no_cupy(fake, monkeypatch, driver, extra):
    fake(driver=driver)
    without(monkeypatch, ModuleNotFoundError("No module named 'cupy'", name="cupy"))
    assert refusal() == (
        f"device \"gpu\": the package CuPy is missing; install it with `pip install 'layerforge[{extra}]'`"
    )


def test_a_cupy_that_cannot_be_loaded(fake, monkeypatch):
    fake(driver=(12, 4))
    without(monkeypatch, ImportError("libcudart.so.13: cannot open shared object file"))
    assert refusal() == (
        'device "gpu": CuPy cannot be loaded (libcudart.so.13: cannot open shared object file). The driver is for CUDA'
        " 12.4; install what fits it with `pip install 'layerforge[cuda12x]'`"
    )


def test_a_driver_that_is_too_old(fake):
    fake(driver=(12, 4), version=13020)
    assert refusal() == (
        'device "gpu": the driver is too old: it is for CUDA 12.4, and CuPy for 13.2. Update the driver, or install'
        " what fits it with `pip install 'layerforge[cuda12x]'`"
    )


def test_libraries_that_fit_the_driver(fake, monkeypatch, tmp_path):
    """Of those of CUDA 12 and 13, which may both be installed; a later one's kernels would not be loaded."""
    for file in (
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cu13/lib/libcublas.so.13",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: spec)

    def open_(file, *arguments):
        if "/" not in file:
            raise OSError(file)
        return file.rpartition("/")[2]

    monkeypatch.setattr(libraries.ctypes, "CDLL", open_)
    fake(driver=(13, 0))
    device.get("gpu")
    assert [libraries.load(name) for name in ("nvrtc", "cublas")] == ["libnvrtc.so.13", "libcublas.so.13"]
    cuda.GPUS.clear()
    fake(driver=(12, 4), version=12090)
    device.get("gpu")
    assert libraries.load("nvrtc") == "libnvrtc.so.12"
    with pytest.raises(OSError) as caught:
        libraries.load("cublas")
    assert str(caught.value) == "there is no libcublas.so.12 in NVIDIA's wheels or where the system looks"


@pytest.mark.parametrize("name, count, message", [
    ("gpu", None, 'device "gpu": the driver finds no GPU (cudaErrorNoDevice)'),
    ("gpu", 0, 'device "gpu:0": there is no GPU'),
    ("gpu:1", 1, 'device "gpu:1": there is one GPU, number 0'),
    ("cuda:7", 2, 'device "gpu:7": there are 2 GPUs, 0 to 1'),
])  # fmt: skip
def test_a_gpu_that_is_not_there(fake, name, count, message):
    fake(count=count)
    assert refusal(name) == message


def test_a_gpu_that_is_too_old(fake):
    fake(capability="61")
    assert refusal() == ('device "gpu": a GPU of architecture sm_75 (Turing) or later is needed, this one is sm_61')


def test_device_query(fake, capsys):
    fake()
    assert cli.main(["device_query", "--gpu", "0"]) == 0
    assert capsys.readouterr().out == "Fake GPU, sm_90, 2 multiprocessors, 1.5 GiB\n"
    assert cli.main(["device_query"]) == 0
    assert capsys.readouterr().out.endswith("GPU         Fake GPU, sm_90, 2 multiprocessors, 1.5 GiB\n")
    assert device.get("cpu").summary == "cpu"


def test_out_of_memory(fake):
    cupy = fake()
    with pytest.raises(DeviceError) as caught:
        device.get("gpu").zeros((1024, 1024), np.float64)
    assert str(caught.value) == (
        "not enough memory on gpu for 8 MiB: an array (1024, 1024) of float64; 0 of its 1 MiB are free."
        " Lower batch_size"
    )
    assert caught.value.out_of_memory
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    assert device.get("gpu").free_memory() == 1 << 19


def test_copies(fake):
    fake()
    gpu = device.get("gpu")
    assert (repr(gpu), gpu.title, gpu.is_host) == ('Device("gpu")', "Fake GPU", False)
    array = gpu.empty((2, 3))
    for values in (np.arange(6).reshape(2, 3), np.ones((3, 2)).T, np.full((2, 3), 7.5)) * 2:
        gpu.from_numpy(array, values)
        np.testing.assert_array_equal(gpu.to_numpy(array), values)
    gpu.from_numpy(array[:, ::2], np.zeros((2, 2)))
    np.testing.assert_array_equal(gpu.to_numpy(array), [[0, 7.5, 0]] * 2)
    gpu.from_numpy(gpu.zeros(0), np.zeros(0))
    gpu.synchronize()
    with pytest.raises(DeviceError) as caught:
        gpu.from_numpy(array, np.zeros(3))
    assert str(caught.value) == "from_numpy: an array (3,) does not fit one of shape (2, 3)"


def test_uploads(fake, monkeypatch):
    """On a stream of their own: behind the last use of the array, and before what is launched next."""
    cupy = fake()
    gpu = device.get("gpu")
    order = []

    class Event:
        def __init__(self, disable_timing):
            order.append("event")

        def record(self, stream):
            order.append(("record", stream is gpu.copies))

        def synchronize(self):
            order.append("wait")

    monkeypatch.setattr(cupy.cuda, "Event", Event)
    for stream, name in ((gpu.stream, "computes"), (gpu.copies, "copies")):
        stream.wait_event = lambda event, name=name: order.append((name, type(event)))
    cupy.cuda.runtime.memcpyHostToDevice = 1
    cupy.cuda.runtime.memcpyAsync = lambda to, source, size, kind, stream: (
        order.append(("copy", kind)),
        ctypes.memmove(to, source, size),
    )
    array, given = gpu.zeros((2, 3), np.uint8), gpu.pinned((2, 3), np.uint8)
    given[...] = np.arange(6).reshape(2, 3)
    wait = gpu.upload(array, given, gpu.mark())
    assert order == [
        "event", ("record", False), ("copies", Event), ("copy", 1), "event", ("record", True), ("computes", Event)
    ]  # fmt: skip
    wait()
    assert order[-1] == "wait"
    np.testing.assert_array_equal(gpu.to_numpy(array), given)


def test_kernels_are_compiled_once_and_kept_on_the_disk(fake, monkeypatch):
    K = Kernels("activation.h")
    for _ in range(2):  # the second GPU finds them on the disk
        cupy = fake()
        cuda.GPUS.clear()
        gpu = device.get("gpu")
        x, y = gpu.zeros(1000), gpu.zeros(1000)
        gpu.from_numpy(x, np.arange(1000) - 500)
        for slope in (0.5, 0.25):
            K.relu_forward(x, y, slope)
            values = np.arange(1000) - 500
            np.testing.assert_array_equal(gpu.to_numpy(y), np.where(values > 0, values, slope * values))
        assert cupy.launched == [("activation/relu_forward/float/narrow", 4, (256, 1, 1))] * 2
        monkeypatch.setattr(nvrtc, "compile", None)


def test_records(fake):
    cupy = fake()
    gpu = device.get("gpu")
    x, y, slope = gpu.zeros(10), gpu.zeros(10), gpu.number(np.float32)
    slope.set(0.5)
    K = Kernels("activation.h")
    K.relu_forward(x, y, slope)
    launches = len(cupy.launched)
    replay = gpu.record(lambda: K.relu_forward(x, y, slope))
    assert len(cupy.launched) == launches + 1
    for value in (0.5, 0.25):
        gpu.from_numpy(x, np.full(10, -4))
        slope.set(value)
        replay()
        np.testing.assert_array_equal(gpu.to_numpy(y), np.full(10, -4 * value))
    assert cupy.modes == [1]


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_a_record_is_made(fake, monkeypatch, collects):
    """It may hold an older record, and CUDA does not let go of that meanwhile."""
    cupy, seen = fake(), []
    gpu, end = device.get("gpu"), cupy.stream.end_capture
    monkeypatch.setattr(cupy.stream, "end_capture", lambda stream: (seen.append("end"), end(stream))[1])
    monkeypatch.setattr(gc, "isenabled", lambda: collects)
    monkeypatch.setattr(gc, "disable", lambda: seen.append("disable"))
    monkeypatch.setattr(gc, "enable", lambda: seen.append("enable"))
    gpu.record(lambda: seen.append("work"))
    with pytest.raises(ZeroDivisionError):
        gpu.record(lambda: 1 / 0)
    enabled = ["enable"] * collects
    assert seen == ["disable", "work", "end", *enabled, "disable", "end", *enabled]


def test_the_host_reads_while_a_record_goes_on(fake, monkeypatch):
    """The event that says so is one of the record's own, for which the driver has to be asked."""
    cupy = fake()
    gpu = device.get("gpu")
    x, y = gpu.zeros(10), gpu.zeros(10)
    reading = gpu.reading(x)
    asked, error = [], 0

    def record_event(event, stream, flags):
        asked.append((event.value, stream.value, flags))
        return error

    monkeypatch.setattr(cuda, "libcuda", lambda: SimpleNamespace(cuEventRecordWithFlags=record_event))
    K = Kernels("eltwise.h")
    work = lambda: (K.add(x, y, x), reading.start(), K.add(x, y, x))  # noqa: E731
    work()
    assert asked == []
    replay = gpu.record(work)
    assert asked == [(77, 77, 1)]
    for value in (1, 2):
        gpu.from_numpy(x, np.full(10, value))
        gpu.from_numpy(y, np.full(10, value))
        replay()
        np.testing.assert_array_equal(reading.wait(), np.full(10, 2 * value))
        np.testing.assert_array_equal(gpu.to_numpy(x), np.full(10, 3 * value))
    assert cupy.modes == [1]
    error = 801
    with pytest.raises(DeviceError) as caught:
        gpu.record(reading.start)
    assert str(caught.value) == "the driver records no event that the host can wait for (error 801)"


def test_a_reading_that_nobody_waits_for_keeps_its_memory_until_it_is_done(fake, monkeypatch):
    cupy, waited = fake(), []
    gpu = device.get("gpu")
    monkeypatch.setattr(cupy.cuda.Event, "synchronize", lambda event: waited.append(event), raising=False)
    reading = gpu.reading(gpu.zeros(10))
    reading.start()
    event = reading.event
    assert waited == []
    del reading
    assert waited == [event]


def test_numbers_go_together(fake):
    """As arguments of one kernel, if they are set together; alone, each as soon as it is set."""
    cupy = fake()
    gpu = device.get("gpu")
    single, step, double = (gpu.number(dtype) for dtype in (np.float32, np.uint64, np.float64))
    others = [gpu.number(np.float32) for _ in range(2)]

    def there(*numbers):
        return [gpu.to_numpy(number.array)[0] for number in numbers]

    for i in range(1, 4):
        single.set(i / 7)
        step.set(2**60 + i)
        double.set(-i / 7)
        assert there(single, step, double) == [np.float32(i / 7), 2**60 + i, -i / 7]
    launches = len(cupy.launched)
    assert cupy.launched == [("results/set_numbers/float/narrow", 1, (256, 1, 1))] * 9
    single.set(3 / 7)  # as it is
    with gpu.sending():
        step.set(5)
        single.set(1.5)
        double.set(2.5)
        others[0].set(3.5)
        assert there(single, step, double) == [np.float32(3 / 7), 2**60 + 3, -3 / 7]
    assert there(single, step, double, others[0]) == [1.5, 5, 2.5, 3.5]
    assert len(cupy.launched) == launches + 1
    with contextlib.suppress(ZeroDivisionError), gpu.sending():
        for n, number in enumerate((single, *others)):
            number.set(n)
        raise ZeroDivisionError
    assert there(single, *others, step) == [0, 1, 2, 5]
    assert len(cupy.launched) == launches + 3
    with gpu.sending():
        pass
    assert len(cupy.launched) == launches + 3


@pytest.mark.parametrize("what, call", [
    ("to_numpy", lambda gpu, x: gpu.to_numpy(x)),
    ("memory for a copy", lambda gpu, x: gpu.reading(x)),
    ("a new number", lambda gpu, x: Number(x, gpu._write).set(1)),
    ("from_numpy", lambda gpu, x: gpu.from_numpy(x, np.ones(10))),
    ("synchronize", lambda gpu, x: gpu.synchronize()),
    ("new memory", lambda gpu, x: gpu.zeros(3)),
    ("new memory", lambda gpu, x: gpu.cupy.zeros(3, np.float32)),  # as a layer does that computes x + 1
    ("another record", lambda gpu, x: gpu.record(lambda: None)),
])  # fmt: skip
@pytest.mark.parametrize("where", ["gpu", "emulated"])
@pytest.mark.parametrize("broken", [False, True])
def test_what_cannot_be_recorded(fake, what, call, where, broken):
    cupy = fake()
    gpu = device.get(where)
    cupy.broken = broken  # the record cannot even be ended
    if where == "emulated":
        gpu.cupy = SimpleNamespace(zeros=gpu.zeros)
    x = gpu.zeros(10)
    with pytest.raises(DeviceError) as caught:
        gpu.record(lambda: call(gpu, x))
    assert str(caught.value) == f"{what}: not while launches are recorded, because a replay of them does not come here"
    gpu.from_numpy(x, np.ones(10))  # is possible again
    reading = gpu.reading(x)
    reading.start()
    np.testing.assert_array_equal(reading.wait(), np.ones(10))


def test_threads_that_ask_at_once_get_one_gpu(fake):
    fake()
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda i: id(device.get("gpu")), range(8)))) == 1


def test_a_record_is_made_on_a_stream_of_its_own(fake):
    """So that what another thread launches meanwhile is no part of it."""
    fake()
    gpu = device.get("gpu")
    seen = []

    def work():
        seen.append(gpu.current)
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(lambda: gpu.current).result())

    gpu.record(work)
    assert seen[0] is not gpu.stream
    assert seen[1] is gpu.current is gpu.stream


def test_work_beside_other_work(fake, monkeypatch):
    """A branch begins where the stream is, and that waits for it where it is joined; a record has its own."""
    cupy, seen = fake(), []
    says, waits = (lambda event, stream: seen.append((stream, "says", event))), (lambda *both: seen.append(both))
    monkeypatch.setattr(cupy.cuda.Event, "record", says, raising=False)
    monkeypatch.setattr(cupy.cuda.Stream, "wait_event", waits, raising=False)
    gpu = device.get("gpu")

    def work():
        """Begins a branch, and says how it is joined."""
        del seen[:]
        main = gpu.current
        with gpu.beside() as branch:
            side = gpu.current
        assert gpu.current is main is not side is branch.stream
        assert seen == [(main, "says", branch.begun), (side, branch.begun), (side, "says", branch.ended)]
        del seen[:]
        return branch, [(main, branch.ended)]

    branch, joined = work()
    branch.join()
    branch.join()
    assert seen == joined
    (one, first), (two, second) = work(), work()
    assert one is branch is not two
    with gpu.beside() as none:  # there are no more: it runs in its order
        assert gpu.current is gpu.stream
    none.join()
    assert seen == []
    two.join()
    assert work() == (two, second)
    kept = []
    replay = gpu.record(lambda: (kept.extend(seen), kept.append(work())))  # what ran before is waited for before
    assert kept[:-1] == first + second and gpu._local.branches == [one, two]
    assert kept[-1][0] not in (one, two) and seen == kept[-1][1]
    work()
    replay()
    assert seen == first
    work()
    gpu.synchronize()
    assert seen == first


def test_large_grids_turn(fake):
    fake()
    assert device.get("gpu").grid(10**9) == (4 * cuda.WAVES, (256, 1, 1))


def test_teams(fake):
    """Warps, eight in a block, for short sums and for very many; else blocks."""
    fake()
    grid, most = device.get("gpu").grid_of_teams, 4 * cuda.WAVES
    warps, block = (1, 32, 8), (1, 256, 1)
    assert [grid(n, 49, 1) for n in (3, 17, 10**9)] == [(1, warps), (3, warps), (most, warps)]
    assert [grid(n, 784, 1) for n in (3, 7, 8, 10**9)] == [(3, block), (7, block), (1, warps), (most, warps)]
    assert [grid(n, 3136, 1) for n in (3, 10**9)] == [(3, block), (most, block)]


def test_teams_for_rows_side_by_side(fake):
    """As many rows as lie together, 32 at most; 8 where rows are few. No team has rows that do not."""
    fake()
    grid, most = device.get("gpu").grid_of_teams, 4 * cuda.WAVES
    assert [grid(n, 784, 64) for n in (64, 128, 64000)] == [(8, (8, 32, 1)), (4, (32, 8, 1)), (most, (32, 8, 1))]
    assert [grid(n, 49, 64) for n in (64, 192, 256)] == [(1, (8, 4, 8)), (6, (32, 8, 1)), (1, (32, 1, 8))]
    assert grid(64000, 49, 64) == (most, (32, 1, 8))
    assert [grid(600, 784, side)[1] for side in (1, 5, 12, 24, 600)] == [
        (1, 32, 8), (1, 32, 8), (4, 64, 1), (8, 32, 1), (8, 32, 1)
    ]  # fmt: skip


def test_a_damaged_file_of_kernels_is_made_again(fake, tmp_path):
    fake()
    form = launch.header(include_path() / "kernels" / "dropout.h").launchers["dropout"].forms["float", False, False]
    first = cuda.compiled(form, 90)
    (path,) = (tmp_path / "kernels").glob("dropout_sm90_*.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert cuda.compiled(form, 90).names == first.names


def test_architectures():
    known = [75, 80, 86, 90, 100, 120]
    assert [cuda.best_architecture(each, known) for each in (75, 87, 89, 90, 103, 120)] == [75, 86, 86, 90, 100, 120]
    with pytest.raises(DeviceError) as caught:
        cuda.best_architecture(130, known)
    version = ".".join(map(str, nvrtc.version()))
    assert str(caught.value) == (
        f"the GPU is of architecture sm_130, for which the compiler NVRTC {version} makes no code; it knows sm_75,"
        " sm_80, sm_86, sm_90, sm_100, sm_120. Install another nvidia-cuda-nvrtc"
    )


def test_cublas_that_is_not_installed(fake, monkeypatch):
    fake()
    monkeypatch.setattr(cuda, "load", lambda name: (_ for _ in ()).throw(OSError(f"there is no lib{name}")))
    gpu = device.get("gpu")
    with pytest.raises(DeviceError) as caught:
        gpu.gemm(gpu.zeros((1, 1)), gpu.zeros((1, 1)), gpu.zeros((1, 1)))
    assert str(caught.value) == (
        'device "gpu": matrix products need cuBLAS (there is no libcublasLt); install it with `pip install'
        " nvidia-cublas`, or `pip install nvidia-cublas-cu12` for a driver of CUDA 12"
    )


def test_cudnn(fake, monkeypatch, tmp_path):
    cupy = fake()
    gpu = device.get("gpu")
    ran, times = [], iter([3.0, 1.0, 2.0])
    cupy.cuda.get_elapsed_time = lambda begin, end: next(times)

    class Plans:
        def __init__(self, module, title, allocate, time, kept):
            assert (module, title, kept) == ("the package", "Fake GPU", tmp_path / "cudnn.json")
            assert allocate(100).nbytes == 100
            assert time(lambda: ran.append("run")) == 1e-3

        def on(self, stream):
            assert stream == 77

        def run(self, way, geometry, last, mode, **pointers):
            ran.append((way, geometry, last, mode, pointers))
            return True

    monkeypatch.setattr(cuda.cudnn, "module", lambda: "the package")
    monkeypatch.setattr(cuda.cudnn, "Cudnn", Plans)
    monkeypatch.setattr(cuda, "load", lambda name: emulated.HostBlas())
    monkeypatch.setattr(cuda, "WORKSPACE", 1 << 10)
    with gpu.math("tf32"):
        assert gpu.convolve("data", "geometry", (False, True), x=1)
    assert ran == ["run"] * 4 + [("data", "geometry", (False, True), "tf32", {"x": 1})]


def test_moments(fake, monkeypatch):
    """Events of the stream: the second one alone is waited for."""
    cupy = fake()
    order = []

    class Event:
        def record(self, stream):
            order.append(("record", stream is gpu.stream))

        def synchronize(self):
            order.append("wait")

    gpu = device.get("gpu")
    cupy.cuda.Event = Event
    cupy.cuda.get_elapsed_time = lambda first, second: 1500.0
    first = gpu.moment()
    second = gpu.moment()
    assert order == [("record", True)] * 2
    assert gpu.between(first, second) == 1.5
    assert order[2:] == ["wait"]


def test_memory_and_versions(fake, monkeypatch):
    cupy = fake(version=13020)
    cupy.get_default_memory_pool = lambda: SimpleNamespace(total_bytes=lambda: 1 << 10)
    cupy.__version__ = "14.2.0"
    gpu = device.get("gpu")
    assert gpu.taken_memory() == 1 << 10
    gpu.let_go()  # of nothing yet
    let_go = []
    gpu.__dict__ |= {
        "cudnn": SimpleNamespace(let_go=lambda: let_go.append(1)),
        "cublas": SimpleNamespace(version="13.1.0"),
    }
    gpu.let_go()
    assert let_go == [1]
    monkeypatch.setattr(cuda.cudnn, "available", lambda: True)
    monkeypatch.setattr(cuda.cudnn, "versions", lambda: {"cuDNN": "9.28.0"})
    assert gpu.versions() == {
        "CUDA of the driver": "13.0", "CUDA runtime": "13.2", "CuPy": "14.2.0",
        "NVRTC": ".".join(map(str, nvrtc.version())), "cuBLAS": "13.1.0", "cuDNN": "9.28.0",
    }  # fmt: skip


def test_products(fake, monkeypatch):
    fake()
    monkeypatch.setattr(cuda, "load", lambda name: emulated.HostBlas())
    monkeypatch.setattr(cuda, "WORKSPACE", 1 << 10)
    monkeypatch.setattr(emulated.HostBlas, "cublasSetWorkspace_v2", lambda *arguments: 0, raising=False)
    gpu = device.get("gpu")
    a, b, out = gpu.zeros((2, 3)), gpu.zeros((3, 4)), gpu.zeros((2, 4))
    gpu.from_numpy(a, np.arange(6).reshape(2, 3))
    gpu.from_numpy(b, np.arange(12).reshape(3, 4))
    gpu.gemm(a, b, out)
    np.testing.assert_array_equal(gpu.to_numpy(out), np.arange(6).reshape(2, 3) @ np.arange(12).reshape(3, 4))
    gpu.gemm_batch(a, b, out, (2, 4, 3), (0, 0, 0), 1, False, False)
    np.testing.assert_array_equal(gpu.to_numpy(out), np.arange(6).reshape(2, 3) @ np.arange(12).reshape(3, 4))

"""Every kernel compiles for every GPU that is supported; no GPU and no driver are needed for that."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from layerforge import kernel_source, kernels
from layerforge.device import libraries, nvrtc
from layerforge.errors import DeviceError, KernelError

HEADERS = sorted(path.name for path in (kernels.include_path() / "kernels").glob("*.h"))

#: From Turing to Blackwell, in the form that nearly every launch takes; for Hopper also in the other three.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
USUAL = ("float", False)
FORMS = {90: [USUAL, ("float", True), ("double", False), ("double", True)]}

#: May use memory beside registers: none is on the path of an iteration that needs to be quick.
COLD = {"fill_gaussian", "stochastic_mean_backward"}


def variants():
    return [(architecture, *form) for architecture in ARCHITECTURES for form in FORMS.get(architecture, [USUAL])]


def build(header, architecture, element, wide, team=False):
    text = (kernels.include_path() / "kernels" / header).read_text()
    made = [each for each in kernel_source.signatures(text) if each.reduces or not team]
    names = [kernel_source.grid_name(each, element) for each in made]
    return nvrtc.compile(
        kernel_source.grid_source(header, wide, team), names, architecture, include=[kernels.include_path()],
        options=["--ptxas-options=-v"], title=header,
    )  # fmt: skip


def memory(program):
    """Kernel -> bytes of registers that were spilled, and bytes of stack (arrays, calls), from ptxas' report."""
    names = {lowered: re.split(r"[<,>]", name)[1] for name, lowered in program.names.items()}
    found = {}
    for block in program.log.split("Function properties for ")[1:]:
        stack, *spilled = (int(number) for number in re.findall(r"(\d+) bytes (?:stack|spill)", block)[:3])
        if block.split()[0] in names:  # the others are functions of the compiler's own
            found[names[block.split()[0]]] = (sum(spilled), stack)
    return found


@pytest.mark.parametrize("header", HEADERS)
def test_every_kernel_compiles_and_stays_in_registers(header):
    kernels_there = len(kernel_source.signatures((kernels.include_path() / "kernels" / header).read_text()))
    with ThreadPoolExecutor(2) as pool:
        jobs = {each: pool.submit(build, header, *each) for each in variants()}
    for variant, job in jobs.items():
        program = job.result()
        assert program.cubin[:4] == b"\x7fELF"
        used = memory(program)
        assert len(used) == len(set(program.names.values())) == kernels_there, variant
        if variant[1:] == USUAL:
            assert {name: each for name, each in used.items() if each != (0, 0) and name not in COLD} == {}, variant


REDUCING = [header for header in HEADERS if "REDUCTION" in (kernels.include_path() / "kernels" / header).read_text()]


@pytest.mark.parametrize("header", REDUCING)
def test_every_reduction_compiles_for_teams(header):
    for architecture in (75, 90, 120):
        for element, wide in FORMS[90] if architecture == 90 else [USUAL]:
            used = memory(build(header, architecture, element, wide, True))
            assert used
            if (element, wide) == USUAL:
                assert set(used.values()) == {(0, 0)}, used


def test_spills_are_seen():
    source = """
    template <class T> __global__ void __launch_bounds__(1024, 2) deep(const T* x, T* y) {
      T kept[64];
      #pragma unroll
      for (int k = 0; k < 64; ++k) kept[k] = x[97 * k + threadIdx.x];
      #pragma unroll
      for (int k = 0; k < 64; ++k) y[31 * k + threadIdx.x] = kept[k] * kept[63 - k];
    }"""
    program = nvrtc.compile(source, ["deep<float>"], 90, options=["--ptxas-options=-v"])
    assert memory(program)["float"][0] > 0


def test_what_the_compiler_can_do():
    assert nvrtc.version() >= (12, 0)
    assert set(ARCHITECTURES) <= set(nvrtc.architectures())


def test_a_kernel_that_does_not_compile():
    source = '#include "portable.h"\ntemplate <class T>\nKERNEL void broken(index_t i, T* y) { y[i] = z; }\n'
    with pytest.raises(KernelError) as caught:
        nvrtc.compile(
            source + '#include "grid.h"\n', ["over_grid<broken<float>, float*>"], 90, include=[kernels.include_path()],
            title="broken.h",
        )  # fmt: skip
    assert str(caught.value) == ('broken.h does not compile for sm_90: broken.h(3): error: identifier "z" is undefined')


def test_an_architecture_that_is_not_there():
    with pytest.raises(KernelError) as caught:
        nvrtc.compile("", [], 12, title="empty.h")
    assert str(caught.value) == (
        "empty.h does not compile for sm_12: nvrtc: error: invalid value for --gpu-architecture (-arch)"
    )


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(libraries, "VERSIONS", {"nvrtc": (99,)})
    with pytest.raises(DeviceError) as caught:
        nvrtc.library.__wrapped__()
    assert str(caught.value) == (
        "kernels for a GPU need NVIDIA's compiler NVRTC (there is no libnvrtc.so.99 in NVIDIA's wheels or where the"
        " system looks); install it with `pip install nvidia-cuda-nvrtc`, or `pip install nvidia-cuda-nvrtc-cu12` for"
        " a driver of CUDA 12"
    )

"""Builds the compiled parts and the schema's descriptor set. What the package is called and needs: pyproject.toml."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
PROTO = ROOT / "proto" / "layerforge.proto"
GENERATED = ROOT / "build" / "generated"

# -fno-trapping-math lets the compiler turn `c ? a : s * b` into a select; -ffp-contract=off gives the same bits with
# and without fused multiply-add, and so on every x86-64 machine. Not -march=native: CLONES in csrc/registry.h
# compiles the hot loops for several instruction sets and chooses when the library is loaded.
FLAGS = ["-O3", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", "-fopenmp", "-fvisibility=hidden", "-g0"]

# For tests, where building quickly counts for more than speed. The same bits as on the CPU.
EMULATED_FLAGS = ["-O1", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]


def kernel_source():
    """The module layerforge.kernel_source, loaded by its path: the package itself cannot be imported yet."""
    spec = importlib.util.spec_from_file_location("kernel_source", ROOT / "layerforge" / "kernel_source.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def write(path: Path, text: str) -> str:
    """Writes a file only when its text changes, and gives its path as setuptools wants it."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.relative_to(ROOT).as_posix()


def onednn_headers() -> list[str]:
    """The folder of oneDNN's headers, from the wheel onednn-devel-cpu-gomp; none where that is not installed."""
    try:
        wheel = importlib.metadata.distribution("onednn-devel-cpu-gomp")
    except importlib.metadata.PackageNotFoundError:
        return []
    header = "oneapi/dnnl/dnnl.h"
    found = [Path(wheel.locate_file(path)).resolve() for path in wheel.files or [] if path.as_posix().endswith(header)]
    return [str(path.parents[2]) for path in found if path.exists()]


def sources(with_onednn: bool) -> list[str]:
    """All C++ sources, with the registrations of csrc/kernels/*.h, which are written here."""
    registration = kernel_source().registration
    headers = sorted((CSRC / "kernels").glob("*.h"))
    written = [
        write(GENERATED / f"{header.stem}_{'wide' if wide else 'narrow'}.cpp", registration(header, wide))
        for header in headers
        for wide in (False, True)
    ]
    own = [*CSRC.glob("*.cpp"), *(CSRC / "cpu").glob("*.cpp")]
    if not with_onednn:
        own = [path for path in own if not path.name.startswith("onednn")]
    return written + sorted(path.relative_to(ROOT).as_posix() for path in own)


def emulated_sources() -> list[str]:
    """The sources of layerforge._emulated: a GPU's launches of all kernels, run on the CPU."""
    emulation = kernel_source().emulation
    headers = sorted((CSRC / "kernels").glob("*.h"))
    written = [
        write(
            GENERATED / f"{header.stem}_{'wide' if wide else 'narrow'}{'_team' * team}_emulated.cpp",
            emulation(header, wide, team),
        )
        for header in headers
        for wide in (False, True)
        for team in (False, True)
        if not team or "REDUCTION" in header.read_text(encoding="utf-8")
    ]
    return [*written, "csrc/emulated/module.cpp"]


class BuildExtension(build_ext):
    """build_ext, and the schema's descriptor set beside the extension."""

    def run(self):
        package = ROOT if self.inplace else Path(self.build_lib)
        target = package / "layerforge" / "layerforge.desc"
        target.parent.mkdir(parents=True, exist_ok=True)
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}", "--include_imports"]
        subprocess.run([*protoc, f"--descriptor_set_out={target}", PROTO.name], check=True)
        super().run()


class BuildPython(build_py):
    """build_py, and the kernel headers and the schema, which the installed package reads."""

    def run(self):
        super().run()
        package = Path(self.build_lib) / "layerforge"
        files = [*CSRC.glob("*.h"), *(CSRC / "kernels").glob("*.h"), PROTO]
        for path in files:
            target = package / path.relative_to(ROOT)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


if __name__ == "__main__":
    os.chdir(ROOT)
    ParallelCompile(default=os.cpu_count()).install()
    onednn = onednn_headers()
    headers = sorted(path.relative_to(ROOT).as_posix() for path in CSRC.rglob("*.h"))  # a change builds again
    linker = ["-fopenmp"] + (["-Wl,-s"] if platform.system() == "Linux" else [])
    setup(
        ext_modules=[
            Pybind11Extension(
                "layerforge._csrc",
                sources(bool(onednn)),
                include_dirs=["csrc", *onednn],
                define_macros=[("LAYERFORGE_ONEDNN", "1")] if onednn else [],
                depends=headers,
                cxx_std=17,
                extra_compile_args=FLAGS,
                extra_link_args=linker,
            ),
            Pybind11Extension(
                "layerforge._emulated",
                emulated_sources(),
                include_dirs=["csrc"],
                depends=headers,
                cxx_std=17,
                extra_compile_args=EMULATED_FLAGS,
                extra_link_args=linker,
            ),
        ],
        cmdclass={"build_ext": BuildExtension, "build_py": BuildPython},
    )

"""What was measured, and on what."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

from benchmarks.contest import ROOT


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def vectors() -> str:
    flags = Path("/proc/cpuinfo").read_text().split()
    return next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "no AVX2")


def memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def cores() -> int:
    return len(os.sched_getaffinity(0))


def commit() -> str:
    """The commit, and whether something else than the documents differs from it."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return run.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def environment() -> str:
    """The variables that make libraries faster or slower, as far as they are set."""
    known = ("OPENBLAS_", "MKL_", "OMP_", "ONEDNN_", "DNNL_", "KMP_", "GOMP_", "MALLOC_")
    return " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(known))


def hardware() -> str:
    return f"{processor()} ({vectors()}), {cores()} cores, {memory_gb():.0f} GB"


def system() -> str:
    return f"{platform.system()} {platform.release()}, Python {platform.python_version()}"


def load() -> float:
    """How many processes compete for the cores, over the last minute."""
    return os.getloadavg()[0]


def describe() -> str:
    return f"{hardware()}, load {load():.1f}; {system()}; commit {commit()}, {datetime.date.today()}"

"""Contestants that take turns: each in its own process, only one of them running at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STEPS = 3  # of a turn, whose median leaves out the first
LONGEST = 2.0  # seconds of a turn that has more than one step

# Tells glibc's allocator to keep large blocks instead of handing them back to the system after each use.
KEEP_LARGE_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 40),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def import_path() -> str:
    """Lets a worker import this folder, and LayerForge from the tree if it is built there, else as installed: wherever
    it is started."""
    built = any((ROOT / "layerforge").glob("_csrc*.so"))
    where = "insert(0, root)" if built else "append(root)"
    return f"import sys; root = {str(ROOT)!r}; sys.path[:] = filter(None, sys.path); sys.path.{where}"


class Failure(SystemExit):
    """A contestant that ended, or did not answer in time, and why. Ends the program where nobody cares."""


@dataclass
class Contestant:
    """A worker process and what it measured."""

    name: str
    job: dict
    environment: dict = field(default_factory=dict)
    limit: float | None = None  # seconds for an answer
    about: dict = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)  # the median of each turn
    losses: list[float] = field(default_factory=list)
    first_seconds: float = 0.0  # of the first step, which may compile
    faults: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def start(self) -> None:
        threads = str(self.job["threads"])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | self.environment
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{import_path()}; from benchmarks.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            cwd=self.job["folder"],
            start_new_session=True,
        )
        self.about = self.ask(do="start", **self.job)

    def ask(self, **command) -> dict:
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # the answer will be missing, too
        if not select.select([self._process.stdout], [], [], self.limit)[0]:
            self.kill()
            raise Failure(f"{self.name} did not answer within {self.limit:.0f} s")
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            raise Failure(f"{self.name} ended with status {self._process.returncode}:\n{self._errors.read()[-4000:]}")
        return json.loads(answer)

    def turn(self, steps: int, warm: bool = True) -> list[float]:
        answer = self.ask(do="turn", steps=steps)
        self.losses += answer["losses"]
        if warm:
            self.milliseconds.append(1e3 * statistics.median(answer["seconds"]))
            self.faults.append(answer["faults"])
        return answer["seconds"]

    def stop(self) -> None:
        self.peak_mb = self.ask(do="report")["peak_mb"]
        self._process.stdin.close()
        self._process.wait()

    def kill(self) -> None:
        """Ends the process, if it runs, at once, and those that it started."""
        if hasattr(self, "_process") and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


def play(contestants: list[Contestant], rounds: int, warm_up: int, turn_seconds: float) -> None:
    """Alternates the started contestants: in every round each takes a turn of as many steps as fit its seconds, or of
    as many as say what a step takes that does not find the other's data in the caches, if they take not too long."""
    steps = {}
    for contestant in contestants:
        for _ in range(warm_up):
            seconds = contestant.turn(1, warm=False)
            if not contestant.first_seconds:
                contestant.first_seconds = seconds[0]
        wanted = max(STEPS, int(turn_seconds / seconds[-1]))
        steps[contestant.name] = max(1, min(wanted, int(LONGEST / seconds[-1])))
    for number in range(rounds):
        # Backwards in every other round, so that nobody always follows the same one.
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            contestant.turn(steps[contestant.name])
            print(f"\rround {number + 1}/{rounds}  {contestant.name:40}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

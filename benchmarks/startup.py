"""How soon LayerForge is there: import, help, the first iteration of LeNet, the weights of AlexNet.

    python -m benchmarks.startup

Each is measured in fresh processes, files in the page cache, median of several. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.contest import ROOT, import_path

IMPORT = """
import time
start = time.perf_counter()
import layerforge
{use}
print(time.perf_counter() - start)
"""

CLI = "import layerforge.cli; sys.exit(layerforge.cli.main())"

SAVE = """
import layerforge as lf
lf.Net({net!r}, lf.TEST).save({path!r})
"""

# The net's parameters are there already; what counts is the time from the file to them, and the memory on top.
LOAD = """
import re, time
from pathlib import Path
import layerforge as lf
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
net = lf.Net({net!r}, lf.TEST)
before = anonymous()
start = time.perf_counter()
net.copy_from({path!r})
print(time.perf_counter() - start, anonymous() - before)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"{import_path()}\n{code}", *arguments]


def floats(command: list[str]) -> list[float]:
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return [float(word) for word in run.stdout.split()]


def wall(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    return time.perf_counter() - start


def until(command: list[str], pattern: str) -> float:
    """Seconds from the start of a process to the line of its log that matches."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    seconds = None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if seconds is None and re.search(pattern, line):
            seconds = time.perf_counter() - start
    if process.wait() or seconds is None:
        sys.exit(f"{' '.join(command[3:])} ended with status {process.returncode}:\n{''.join(lines)[-3000:]}")
    return seconds


def measured(repeat: int) -> list[tuple[str, float, str]]:
    """What was measured, its median in seconds, and a remark."""

    def median(measure, *arguments) -> float:
        measure(*arguments)  # files into the page cache, sample data drawn
        return statistics.median(measure(*arguments) for _ in range(repeat))

    with tempfile.TemporaryDirectory() as folder:
        net, weights = str(ROOT / "nets/alexnet_deploy.prototxt"), os.path.join(folder, "alexnet.caffemodel")
        train = python(CLI, "train", "--solver", "nets/lenet_solver.prototxt", "--max-iter", "1")
        train += ["--set", "test_initialization=false", "--set", f"snapshot_prefix={folder}/lenet"]
        rows = [
            ("python, doing nothing", median(wall, python("pass")), ""),
            (
                "import layerforge",
                median(lambda: floats(python(IMPORT.format(use="")))[0]),
                "names are loaded when used",
            ),
            (
                "import layerforge, and its Net",
                median(lambda: floats(python(IMPORT.format(use="layerforge.Net")))[0]),
                "",
            ),
            ("layerforge --help", median(wall, python(CLI, "--help")), ""),
            (
                "layerforge train on LeNet, until its first iteration is logged",
                median(until, train, r"Iteration 0 "),
                "",
            ),
        ]
        subprocess.run(python(SAVE.format(net=net, path=weights)), check=True)
        runs = [floats(python(LOAD.format(net=net, path=weights))) for _ in range(repeat)]
        size = Path(weights).stat().st_size / 1e6
        seconds, extra = (statistics.median(column) for column in zip(*runs, strict=True))
        rows.append(
            (f"a caffemodel of {size:.0f} MB into a net", seconds, f"{extra:.0f} MB of memory besides the net's")
        )
    return rows


def chapter(repeat: int = 7) -> str:
    """Measures, and writes what was found."""
    rows = measured(repeat)
    lines = [f"## Start-up\n\n{machine.describe()}; median of {repeat}, everything in the page cache.\n"]
    lines += ["| | seconds | |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {seconds:.3f} | {note} |" for name, seconds, note in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=7)
    print(chapter(parser.parse_args().repeat))


if __name__ == "__main__":
    main()

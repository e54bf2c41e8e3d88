"""One side of a contest, in a process of its own. One JSON object a line: commands on stdin, answers on stdout.

    {"do": "start", ...job}     -> what it is
    {"do": "turn", "steps": n}  -> seconds of each step, loss after each, page faults in all
    {"do": "save"}              -> writes its weights to the job's folder, for the other side to begin from
    {"do": "outputs"}           -> writes what it computes for the batch to the job's folder, for comparison
    {"do": "report"}            -> peak memory in MB

Between its turns a worker waits for its pipe and takes no time from the other side.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np


def turn(trainer, steps: int) -> dict:
    seconds, losses = [], []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(trainer.step())
        seconds.append(time.perf_counter() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"seconds": seconds, "losses": losses, "faults": faults / steps}


def peak_mb() -> float:
    """The most memory this process ever held. (`ru_maxrss` would count the parent's at the moment of the fork.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def main() -> None:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    trainer = None
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "start":
                trainer = importlib.import_module(f"benchmarks.{command['side']}_side")
                trainer = getattr(trainer, command.get("kind", "Trainer"))(command)
                answer = trainer.describe()
            case "turn":
                answer = turn(trainer, command["steps"])
            case "save":
                trainer.save()
                answer = {}
            case "outputs":
                path = f"{command['name']}.npy"  # in the job's folder, where this process is
                np.save(path, trainer.outputs())
                answer = {"path": path}
            case "report":
                answer = {"peak_mb": peak_mb()}
        print(json.dumps(answer), file=answers, flush=True)

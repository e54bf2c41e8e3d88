"""How long the host takes to launch an iteration that is replayed on a GPU: what a GPU must not be quicker than.

    python -m benchmarks.host

It needs no GPU. The nets train on the emulated device, whose records are then replaced by nothing, so that what is left
is Python and the host's bookkeeping. On a GPU the launch of a CUDA graph, that of a kernel which writes the pass's
number, and the waiting for an event come in addition, some microseconds each. Batches are small, for the host does not
care.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks import machine

NETS = ("lenet", "alexnet", "googlenet", "resnet50")
WARM = 4  # iterations until one is replayed
ROUNDS = 9


def microseconds(name: str, momentum: float, clip: float, seconds: float) -> float:
    """The median over rounds of the time for an iteration."""
    import layerforge as lf
    from benchmarks import nets
    from layerforge import schema

    recipe = schema.message("SolverParameter")(
        base_lr=0.01, lr_policy="inv", gamma=1e-4, power=0.75, momentum=momentum, random_seed=1, clip_gradients=clip
    )
    recipe.net_param.CopyFrom(nets.in_memory(name, (1, *nets.NETS[name].shape), dropout=True))
    solver = lf.Solver(recipe, device="emulated", reuse=True)
    solver.step(WARM)
    pieces = solver.iteration.recorder.pieces
    assert len(pieces) == 1, "an iteration is one record"
    pieces[0].replay = lambda: None
    solver.net.device.synchronize = lambda: None  # type: ignore[method-assign]
    rounds = []
    for _ in range(ROUNDS):
        start, iterations = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / ROUNDS:
            solver.step(50)
            iterations += 50
        rounds.append((time.perf_counter() - start) / iterations)
    return 1e6 * statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    args = parser.parse_args()
    print(machine.describe(), "\n")
    print("| net | host, µs an iteration | with clip_gradients |\n|---|---|---|")
    for name in args.nets:
        plain, clipped = (microseconds(name, 0.9, clip, args.seconds) for clip in (-1, 10))
        print(f"| {name} | {plain:.0f} | {clipped:.0f} |", flush=True)


if __name__ == "__main__":
    main()

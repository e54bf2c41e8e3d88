"""Trains a net as a solver says.

A run ends at the solver's max_iter, or at --max-iter, with a snapshot, a test and the line that resumes it. Ctrl-C
stops it after the iteration at hand, with a snapshot, and so does SIGTERM (exit status 143, so that a scheduler sees
that it did not end by itself); Ctrl-C twice stops at once; SIGHUP takes a snapshot and goes on. The log goes to stderr:
on a terminal calmly, above a live line; in a file or a pipe as Caffe's log lines.

examples:
  layerforge train --solver nets/lenet_solver.prototxt
  layerforge train --solver nets/alexnet_solver.prototxt --max-iter 20 --set base_lr=0.02
  layerforge train --solver nets/alexnet_solver.prototxt --resume
"""

from __future__ import annotations

import logging
import shlex
import signal
from argparse import Namespace
from typing import Any

from ..errors import DefinitionError, LayerForgeError
from . import flags, machine, signals

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("--solver", required=True, metavar="FILE", help="the solver's prototxt")
    start = parser.add_argument_group("where it starts")
    start.add_argument("--snapshot", metavar="FILE", help="the solverstate to go on from")
    start.add_argument(
        "--resume", action="store_true", help="go on from the newest good snapshot; from scratch where there is none"
    )
    start.add_argument(
        "--weights", metavar="A,B", help="weights to start from, by layer name; in place of the solver's own"
    )
    start.add_argument("--seed", type=flags.whole(0), metavar="N", help="in place of the solver's random_seed")
    run = parser.add_argument_group("what it does")
    run.add_argument(
        "--max-iter", type=flags.whole(0), metavar="N", help="stop after iteration N; the rest of the recipe stays"
    )
    run.add_argument(
        "--set",
        dest="settings",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change a field of the solver, as in --set base_lr=0.02 stepvalue=100,200",
    )
    flags.add_state(run)
    effect = flags.one_of(*signals.EFFECTS)
    run.add_argument("--sigint-effect", type=effect, default="stop", metavar="stop|snapshot|none", help="default: stop")
    run.add_argument(
        "--sighup-effect", type=effect, default="snapshot", metavar="stop|snapshot|none", help="default: snapshot"
    )
    flags.add_machine(parser)


def run(args: Namespace, handler: Any) -> int:
    if args.snapshot and args.weights:
        raise flags.UsageError("give --snapshot to go on with a run, or --weights to start from weights, but not both")
    if args.snapshot and args.resume:
        raise flags.UsageError("--resume finds the snapshot by itself: give either --snapshot or --resume")
    machine.import_layers(args.imports)
    from .. import snapshot
    from ..solver import Solver, prefix_of
    from . import definitions

    definition = definitions.read_solver(args.solver, args.settings)
    param = definition.message
    mode = definition.message.DESCRIPTOR.fields_by_name["solver_mode"].enum_type.values[param.solver_mode].name
    device = machine.prepare(args, mode if param.HasField("solver_mode") else None)
    state = args.snapshot
    if args.resume:
        state = newest(prefix_of(definition), snapshot)
    if state:
        param.ClearField("weights")  # the snapshot has them
    elif args.weights:
        param.ClearField("weights")
        param.weights.append(args.weights)
    if args.max_iter is None and not param.HasField("max_iter"):
        raise DefinitionError("max_iter is not given. Write max_iter: 1000, say, or use --max-iter", definition.place())
    end = param.max_iter if args.max_iter is None else args.max_iter
    if end > param.max_iter:
        log.info("max_iter: %d, as --max-iter says, in place of %d.", end, param.max_iter)
        param.max_iter = end

    solver = Solver(definition, device=device, seed=args.seed, level=args.level, stages=args.stage, reuse=True)
    try:
        return train(args, handler, solver, state, end)
    finally:
        solver.close()


def newest(prefix: str, snapshot: Any) -> Any:
    """The newest good snapshot of a prefix, or None, and says which."""
    found = snapshot.newest(prefix)
    if found is None:
        log.info("--resume: there is no good snapshot %s_iter_*; starting from scratch.", prefix)
    else:
        log.info("--resume: the newest good snapshot is %s.", found)
    return found


def train(args: Namespace, handler: Any, solver: Any, state: Any, end: int) -> int:
    solver.test_last = True
    live = None
    stop = signals.Signals(args.sigint_effect, args.sighup_effect, lambda: handler.broken)
    try:
        with stop:
            solver.requested = stop
            if state:
                solver.restore(state)
                if args.seed is not None and args.seed != solver.seed:
                    log.warning("--seed %d has no effect: the snapshot goes on with its own.", args.seed)
            log.info("Seed %d.", solver.seed)
            if handler.calm:
                from .progress import LiveLine

                live = LiveLine(handler.stream, end)
                handler.hide_live_line = live.hidden
                solver.observers.append(live)
            solver.solve(end=end)
    except (LayerForgeError, KeyboardInterrupt):
        if solver.last_snapshot is not None:
            log.info("To go on from the last good snapshot: %s", resume_command(args, solver.last_snapshot.state, True))
        raise
    finally:
        if live:
            live.close()
    say_how_to_resume(args, solver, end)
    if stop.stopped_by in (None, signal.SIGINT):
        return 0
    return 128 + stop.stopped_by


def say_how_to_resume(args: Namespace, solver: Any, end: int) -> None:
    """Logs the command that goes on from the last snapshot, or what to do with the weights of a finished run."""
    taken = solver.last_snapshot
    if taken is None:
        return
    if solver.iter < solver.param.max_iter:
        log.info("To go on: %s", resume_command(args, taken.state, solver.iter < end))
    else:
        log.info("The recipe is complete. The weights are in %s", taken.model)


def resume_command(args: Namespace, state: Any, to_the_same_end: bool) -> str:
    """What to type to go on with a run."""
    words = ["layerforge", "train", "--solver", args.solver, "--snapshot", str(state)]
    if args.settings:
        words += ["--set", *args.settings]
    for name in args.imports:
        words += ["--import", name]
    if args.level:
        words += ["--level", str(args.level)]
    if args.stage:
        words += ["--stage", ",".join(args.stage)]
    if args.gpu is not None:
        words += ["--gpu", args.gpu]
    elif args.device != "auto":
        words += ["--device", args.device]
    if args.threads:
        words += ["--threads", str(args.threads)]
    if args.cache:
        words += ["--cache", args.cache]
    if to_the_same_end and args.max_iter is not None:
        words += ["--max-iter", str(args.max_iter)]
    return shlex.join(words)

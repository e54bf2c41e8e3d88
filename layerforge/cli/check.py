"""Tells every mistake in nets and solvers, without running them.

A net is checked for TRAIN and for TEST; a solver with all its nets. No memory is taken and nothing is trained. Exit
status 1 where there is a mistake.

examples:
  layerforge check nets/alexnet_solver.prototxt
  layerforge check my_net.prototxt --import my_layers.py
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import LayerForgeError, Place, Problems
from . import flags, machine

if TYPE_CHECKING:
    from ..schema import Definition


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="prototxts of nets and solvers")
    parser.add_argument("--solver", action="append", default=[], metavar="FILE", help="one more, as in Caffe")
    parser.add_argument("--model", action="append", default=[], metavar="FILE", help="one more, as in Caffe")
    flags.add_state(parser)
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    files = [*args.files, *args.solver, *args.model]
    if not files:
        raise flags.UsageError("name the prototxt to check")
    machine.import_layers(args.imports)
    problems = Problems()
    for file in files:
        found = Problems()
        words = check_file(file, args, found)
        if not found.errors:
            print(f"{file}: {words}; no mistakes.")
        for error in in_order(found.errors):
            problems.add(error)
    problems.raise_any()
    return 0


def in_order(errors: list[LayerForgeError]) -> list[LayerForgeError]:
    """File by file as they come, by line within a file."""
    files = list(dict.fromkeys(error.place.file if error.place else None for error in errors))

    def key(error: LayerForgeError) -> tuple[int, int, int]:
        place = error.place or Place()
        return files.index(place.file), place.line or 0, place.column or 0

    return sorted(errors, key=key)


def check_file(file: str, args: Namespace, problems: Problems) -> str:
    """Collects the mistakes of one file, and returns what it is."""
    from . import definitions

    try:
        if definitions.kind(file) == "SolverParameter":
            return check_solver(definitions.read_solver(file, []), args, problems)
        from .. import net, upgrade

        definition = upgrade.net(net.as_definition(file, "NetParameter"))
        return check_net(definition, (0, 1), args.level, args.stage, problems)
    except LayerForgeError as error:
        problems.add(error)
        return ""


def check_solver(definition: Definition, args: Namespace, problems: Problems) -> str:
    from .. import solver

    found = solver.check(definition)
    for error in found.errors:
        problems.add(error)
    fields = [field for field in solver.NET_FIELDS if definition.message.HasField(field)]
    if len(fields) != 1:
        return "a solver"
    words = ["a solver"]
    for plan in solver.net_plans(definition, args.level, args.stage):
        try:
            inner = solver.net_definition(definition, plan)
        except LayerForgeError as error:
            problems.add(error)
            continue
        words.append(check_net(inner, (plan.phase,), plan.level, plan.stages, problems))
    return ", ".join(dict.fromkeys(words))


def check_net(
    definition: Definition, phases: Iterable[int], level: int, stages: Iterable[str], problems: Problems
) -> str:
    from ..net import Net

    words = []
    for phase in phases:
        try:
            net = Net(definition, phase, level, stages, allocate=False, seed=0)
        except LayerForgeError as error:
            problems.add(error)
            continue
        net.close()
        words.append(f"{len(net.nodes)} layers in {('TRAIN', 'TEST')[phase]}")
    return f'net "{definition.message.name}" of {" and ".join(words)}'

"""Flags: argparse that takes Caffe's spellings too, and the flags that several commands have.

Caffe's tools use gflags: one dash or two, ``-flag=value`` or ``-flag value``, underscores in names, ``-noflag`` for a
flag that is on or off.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from ..errors import nearest

GLOG_SWITCHES = ("logtostderr", "alsologtostderr", "colorlogtostderr")
FLAG = re.compile(r"--?([A-Za-z][\w-]*)(=.*)?", re.DOTALL)
TRUTH = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}


class Parser(argparse.ArgumentParser):
    """The flags of one command. What is wrong with them ends the program with status 2 and the nearest right name."""

    def __init__(self, command: str, text: str):
        first, _, rest = text.strip().partition("\n\n")
        super().__init__(
            prog=f"layerforge {command}",
            description=first,
            epilog=rest or None,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags of a command line, in Caffe's spelling or today's."""
        switches = {
            option.removeprefix("--")
            for action in self._actions
            if action.nargs == 0
            for option in action.option_strings
        }
        words = modern(argv, switches)
        known = [option for action in self._actions for option in action.option_strings]
        for name in [word.partition("=")[0] for word in words if FLAG.fullmatch(word)]:
            if name not in known:
                like = nearest(name, known)
                self.error(f"there is no flag {name}.{f' Did you mean {like}?' if like else ''}")
        args, unknown = self.parse_known_args(words)
        if unknown:
            self.error(f'"{unknown[0]}" belongs to no flag')
        return args

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\n{self.prog} --help tells the flags.\n")
        raise SystemExit(2)


def modern(argv: Iterable[str], switches: Iterable[str]) -> list[str]:
    """Caffe's spellings in argparse's; ``switches`` are the names of the flags that take no value.

    >>> modern(["-solver=a_b.prototxt", "-max_iter", "20", "-nodebug", "--resume=true"], ["debug", "resume"])
    ['--solver=a_b.prototxt', '--max-iter', '20', '--resume']
    """
    switches = set(switches)
    result = []
    for word in argv:
        match = FLAG.fullmatch(word)
        if not match:
            result.append(word)
            continue
        name, value = match[1].replace("_", "-"), match[2] or ""
        name = "help" if name == "h" else name
        off = name.startswith("no") and name[2:].lstrip("-") in switches
        if name in switches and value:
            off, value = not TRUTH.get(value[1:].lower(), True), ""
        if not off:
            result.append(f"--{name}{value}")
    return result


def whole(least: int) -> Callable[[str], int]:
    """A type of flag: whole numbers from ``least``."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f'"{text}" is no whole number from {least}')
        return int(text)

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """A type of flag: one of these words, in small or capital letters."""

    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise argparse.ArgumentTypeError(f'"{text}" is none of {", ".join(words)}')

    return read


def names(text: str) -> tuple[str, ...]:
    """A type of flag: ``a,b`` as ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def add_machine(parser: Parser) -> None:
    """The flags that say on what, and with what, a command runs."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--device", default="auto", metavar="auto|cpu|gpu|N", help="where to compute; auto: a GPU if there is one"
    )
    group.add_argument("--gpu", metavar="N|all", help="Caffe's way to ask for a GPU, as --device N")
    group.add_argument(
        "--threads",
        type=whole(1),
        metavar="N",
        help="threads to compute with, and to read images; default: all cores that the process may use",
    )
    group.add_argument("--cache", metavar="DIR", help="the folder for sample data; default: ~/.cache/layerforge")
    add_always(parser)


def add_always(parser: Parser) -> None:
    """The flags that every command has."""
    group = parser.add_argument_group("always")
    group.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file, or module, of layers of your own; may be given several times",
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument(
        "--log-dir",
        default=os.environ.get("GLOG_log_dir", ""),  # noqa: SIM112 (glog's spelling)
        metavar="DIR",
        help="log to a file in this folder too",
    )
    group.add_argument(
        "--minloglevel", type=whole(0), metavar="N", help="log from this on: 0 everything, 1 warnings, 2 errors"
    )
    # glog's other flags, which Caffe's tools have: the log goes to stderr in any case.
    for name in GLOG_SWITCHES:
        group.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    for name in ("stderrthreshold", "v", "vmodule"):
        group.add_argument(f"--{name}", help=argparse.SUPPRESS)


def add_state(parser: Any) -> None:
    """The flags that choose layers, as the rules in a net say."""
    parser.add_argument("--level", type=int, default=0, metavar="N", help="the level that the net's rules see")
    parser.add_argument("--stage", type=names, default=(), metavar="A,B", help="the stages that the net's rules see")


def add_phase(parser: Parser) -> None:
    parser.add_argument("--phase", type=one_of("TRAIN", "TEST"), default="TRAIN", help="TRAIN (the default) or TEST")


def given(args: Any, name: str, value: Any) -> str:
    """A flag as it must be typed again, or "" where it has its default."""
    import shlex

    return f" {name} {shlex.quote(str(value))}" if value not in (None, "", [], ()) else ""


class UsageError(Exception):
    """Flags that do not go together: exit status 2."""

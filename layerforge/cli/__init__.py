"""The command ``layerforge``: one module per verb, with `add_flags` and `run`, imported when it is asked for.

Exit status: 0; 1 for a mistake that LayerForge explains, on stderr; 2 for flags that make no sense; 130 after Ctrl-C
twice, 143 after SIGTERM, 141 when whoever read the output went away.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from .. import __version__, logs
from ..errors import LayerForgeError, did_you_mean
from . import flags

VERBS = {
    "train": "train a net as a solver says",
    "test": "score the weights of a net",
    "time": "time every layer of a net, forward and backward",
    "check": "tell every mistake in a net or a solver, without running it",
    "summary": "tell the shapes, parameters, work and memory of a net",
    "device_query": "tell what there is to compute on",
    "upgrade": "write an old net or solver as one of today",
    "draw": "draw a net as Graphviz dot, SVG, PNG or PDF",
    "classify": "tell the classes of images",
    "detect": "score windows of images",
    "convert_imageset": "make a database of the images that a list names",
    "compute_image_mean": "compute the mean image of a database",
    "extract_features": "write what a net computes of each image to a database or a file",
    "parse_log": "write what a training log says as CSV",
    "plot": "draw training logs as charts",
}

#: Caffe's other names for some of them.
ALIASES = {
    "upgrade_net_proto_text": "upgrade",
    "upgrade_net_proto_binary": "upgrade",
    "upgrade_solver_proto_text": "upgrade",
    "draw_net": "draw",
    "plot_training_log": "plot",
}

HELP = f"""usage: layerforge COMMAND [flags]

{chr(10).join(f"  {verb:20}{text}" for verb, text in VERBS.items())}

layerforge COMMAND --help tells a command's flags. Caffe's spellings work too: -solver=f.prototxt, -max_iter 20, -gpu 0.
"""

#: Flags that take no value; a verb may follow them.
SWITCHES = ("data", "resume", "debug", *flags.GLOG_SWITCHES)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, by default this process's, and returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        status = command(argv)
        sys.stdout.flush()
        return status
    except SystemExit as end:  # argparse, after --help or a wrong flag
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:  # `| head` has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        complain("Interrupted.")
        return 130


def command(argv: list[str]) -> int:
    verb, rest = split(argv)
    if verb is None:
        if any(word in ("-h", "-help", "--help") for word in rest):
            print(HELP, end="")
            return 0
        if any(word in ("-version", "--version") for word in rest):
            print(f"layerforge {__version__}")
            return 0
        word = next((word for word in rest if not word.startswith("-")), None)
        if word is not None:
            complain(f'layerforge: there is no command "{word}".{did_you_mean(word, VERBS)}')
        complain(HELP.rstrip())
        return 2
    module = importlib.import_module(f".{verb}", __name__)
    parser = flags.Parser(verb, module.__doc__ or "")
    module.add_flags(parser)
    args = parser.read(rest)
    with contextlib.ExitStack() as stack:
        handler = stack.enter_context(logs.to(sys.stderr))
        try:
            if args.log_dir:
                stack.enter_context(logs.to_folder(args.log_dir))
            if args.minloglevel is not None:
                logs.ROOT.setLevel(logs.GLOG_LEVELS[min(args.minloglevel, 3)])
            return int(module.run(args, handler))
        except flags.UsageError as error:
            parser.error(str(error))
        except LayerForgeError as error:
            if args.debug:
                raise
            complain(str(error))
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except MemoryError as error:
            if args.debug:
                raise
            complain(f"There is not enough memory. {error}".rstrip())
        except Exception as error:
            if args.debug:
                raise
            from .machine import where

            complain(f"{where(error)}{type(error).__name__}: {error}\nRun it with --debug to see how it came to this.")
    return 1


def split(argv: list[str]) -> tuple[str | None, list[str]]:
    """The verb of a command line, which may stand anywhere, and the rest. In front it may be called as Caffe's file.

    >>> split(["-solver", "train", "train"])
    ('train', ['-solver', 'train'])
    >>> split(["draw_net.py", "net.prototxt", "net.png"])
    ('draw', ['net.prototxt', 'net.png'])
    """
    takes_value = False
    for i, word in enumerate(argv):
        name = word.removesuffix(".py").removesuffix(".bin").replace("-", "_") if i == 0 else word
        if not takes_value and (name in VERBS or name in ALIASES):
            return ALIASES.get(name, name), argv[:i] + argv[i + 1 :]
        match = flags.FLAG.fullmatch(word)
        takes_value = match is not None and not match[2] and match[1].removeprefix("no") not in SWITCHES
    return None, argv


def complain(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

"""`ticgrpo`: one entry of COMMANDS for each command.

A command is a function whose parameters are its options, whose docstring is its help, and whose value is the
exit code; it raises ValueError for bad input. Its module imports what takes long when it is called.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import tyro

from ticgrpo_theory.cli.commands.bias import bias
from ticgrpo_theory.cli.commands.bounds import bounds
from ticgrpo_theory.cli.commands.decompose import decompose
from ticgrpo_theory.cli.commands.gradient import gradient
from ticgrpo_theory.cli.commands.listing import listing
from ticgrpo_theory.cli.commands.moments import moments
from ticgrpo_theory.cli.commands.simulate import simulate
from ticgrpo_theory.cli.commands.sweep import sweep
from ticgrpo_theory.inputs.tracebacks import place_of, said
from ticgrpo_theory.version import VERSION

COMMANDS: dict[str, Callable[..., int]] = {
    "list": listing,
    "gradient": gradient,
    "bias": bias,
    "moments": moments,
    "decompose": decompose,
    "simulate": simulate,
    "bounds": bounds,
    "sweep": sweep,
}

INTERRUPTED = 130
"""As a shell counts a process that ended by Ctrl-C."""

DESCRIPTION = """Which gradient does a policy-gradient estimator really estimate?

`ticgrpo COMMAND --help` shows the options of a command, with examples; `ticgrpo --version` the version.

--json prints an answer for programs, and nothing else on stdout.

Exit code: 0, 1 for input that is refused, 2 for options that do not exist, 130 when interrupted.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line and exit code 1, no traceback."""
    given = list(sys.argv[1:] if args is None else args)
    if given == ["--version"]:
        print(f"ticgrpo {VERSION}")
        return 0
    try:
        return tyro.extras.subcommand_cli_from_dict(
            overview() if given in (["-h"], ["--help"]) else COMMANDS,
            prog="ticgrpo",
            description=DESCRIPTION,
            args=given,
            config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except Exception as error:
        if not place_of(error):
            raise  # a fault of this package, not of a file of the user's
        print(f"error: {said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {left_behind(given)}", file=sys.stderr)
        return INTERRUPTED


def overview() -> dict[str, Callable[..., int]]:
    """The commands with the first line of their help alone."""

    def short(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def named(*args: object, **options: object) -> int:
            return command(*args, **options)

        named.__doc__ = (command.__doc__ or "").partition("\n")[0]
        return named

    return {name: short(command) for name, command in COMMANDS.items()}


def left_behind(given: Sequence[str]) -> str:
    """What an interrupted command leaves."""
    if given[:1] == ["sweep"] or any(word.partition("=")[0] == "--folder" for word in given):
        return "what is finished is kept, and the same command goes on from there"
    return "nothing was written"

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
from ticgrpo_theory.cli.commands.check import check
from ticgrpo_theory.cli.commands.claim import claim
from ticgrpo_theory.cli.commands.decompose import decompose
from ticgrpo_theory.cli.commands.demo import demo
from ticgrpo_theory.cli.commands.gradient import gradient
from ticgrpo_theory.cli.commands.listing import listing
from ticgrpo_theory.cli.commands.moments import moments
from ticgrpo_theory.cli.commands.simulate import simulate
from ticgrpo_theory.cli.commands.sweep import sweep
from ticgrpo_theory.experiment.terminal import by_interrupt, interrupts_heard, write_plainly
from ticgrpo_theory.inputs.tracebacks import brief, place_of, said
from ticgrpo_theory.version import VERSION

COMMANDS: dict[str, Callable[..., int]] = {
    "list": listing,
    "gradient": gradient,
    "bias": bias,
    "moments": moments,
    "claim": claim,
    "decompose": decompose,
    "simulate": simulate,
    "bounds": bounds,
    "sweep": sweep,
    "check": check,
    "demo": demo,
}

ALIASES = {"audit": "check"}
"""Other names of commands."""

INTERRUPTED = 130
"""As a shell counts a process that ended by Ctrl-C."""

DESCRIPTION = """Which gradient does a policy-gradient estimator really estimate?

`ticgrpo COMMAND --help` shows the options of a command, with examples; `ticgrpo --version` the version.

--json prints an answer for programs, and nothing else on stdout.

Exit code: 0, 1 for input that is refused, 2 for options that do not exist, 3 where a required row of a check
does not hold, 130 when interrupted.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line and exit code 1, no traceback."""
    given = list(sys.argv[1:] if args is None else args)
    given[:1] = ALIASES.get(given[0], given[0]).split() if given else []
    if given == ["--version"]:
        print(f"ticgrpo {VERSION}")
        return 0
    write_plainly()
    with interrupts_heard():
        try:
            return tyro.extras.subcommand_cli_from_dict(
                overview() if given in (["-h"], ["--help"]) else COMMANDS,
                prog="ticgrpo",
                description=DESCRIPTION,
                args=given,
                config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
            )
        except BaseException as error:
            return ended(error, given)


def ended(error: BaseException, given: Sequence[str]) -> int:
    """Say in one line how a command ended, and its exit code; a fault of this package is raised again."""
    if by_interrupt(error):
        kept = str(error) if isinstance(error, KeyboardInterrupt) else ""
        print(f"interrupted: {kept or left_behind(given)}", file=sys.stderr)
        return INTERRUPTED
    told = brief(str(error)) if isinstance(error, ValueError | OSError) else beyond(error)
    told = told or (said(error) if place_of(error) else "")
    if not told:
        raise error  # the usage, or a fault of this package, not of a file of the user's
    print(f"error: {told}", file=sys.stderr)
    return 1


def beyond(error: BaseException) -> str:
    """What to say of numbers beyond memory or float64; "" of any other error."""
    # torch says so by a RuntimeError.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"out of memory ({brief(str(error))}); ask for less at once"
    if isinstance(error, OverflowError):
        return f"a number is too large ({brief(str(error))}); give a smaller one"
    return ""


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

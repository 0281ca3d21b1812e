"""`ticgrpo`: one entry of COMMANDS for each command.

A command is a function whose parameters are its options, whose docstring is its help, and whose value is the
exit code; it raises ValueError for bad input.
"""

import sys
from collections.abc import Callable, Sequence

import tyro

from ticgrpo_theory.commands.sweep import sweep

COMMANDS: dict[str, Callable[..., int]] = {
    "sweep": sweep,
}

INTERRUPTED = 130
"""As a shell counts a process that ended by Ctrl-C."""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line and exit code 1, no traceback."""
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="ticgrpo",
            description="Which gradient does a policy-gradient estimator really estimate?",
            args=args,
            config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "interrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr
        )
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

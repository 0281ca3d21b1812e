"""An experiment of a user: rows of numbers, quickly. SWEEP_LOG names a file that hears of every call."""

import os
import signal
import time
from dataclasses import dataclass

RESULTS_VERSION = 1
MAY_BE_MISSING = ("root",)


@dataclass(frozen=True)
class Config:
    """Numbers."""

    x: int
    """Any whole number."""
    etas: tuple[float, ...] = (0.5,)
    """Factors."""
    name: str = "plain"
    """A word."""
    fail: str = ""
    """How a negative x ends."""
    seconds: float = 0.0
    """How long a cell takes."""


def check(cfg: Config) -> None:
    if cfg.x == 13:
        raise ValueError("x = 13: not on a Friday; give another one")


def rows(cfg: Config) -> list[dict[str, float | str | None]]:
    threads = [os.environ.get(f"{library}_NUM_THREADS") for library in ("OMP", "NUMBA")]
    log(f"begin {cfg.x} {cfg.etas}\npid {os.getpid()}\nthreads {threads}")
    time.sleep(cfg.seconds)
    if cfg.x < 0 and cfg.fail:
        FAILURES[cfg.fail](cfg)
    root = cfg.x**0.5 if cfg.x >= 0 else None
    made = [
        {"eta": eta, "k": k, "root": root, "y": eta * k * cfg.x / 3} for eta in cfg.etas for k in range(20)
    ]
    log(f"done {cfg.x} {cfg.etas}")
    return made


def log(line: str) -> None:
    if os.environ.get("SWEEP_LOG"):
        with open(os.environ["SWEEP_LOG"], "a") as file:
            file.write(line + "\n")


def raises(cfg: Config) -> None:
    raise ZeroDivisionError(f"no {cfg.x} today")


def exits(cfg: Config) -> None:
    raise SystemExit(3)


def dies(cfg: Config) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FAILURES = {"raises": raises, "exits": exits, "dies": dies}

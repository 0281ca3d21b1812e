"""What a run shows while it goes on: a bar with reward and time left, or a line for each rollout in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Shown:
    """A context manager around the rollouts; `done` after each of them, `say` for everything else."""

    def __init__(self, total: int, done: int, console: Console) -> None:
        self.total, self.finished, self.begun_with, self.console = total, done, done, console
        self.began = time.perf_counter()
        self.bar = Progress(
            TextColumn("rollout"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=total, completed=done, told="")

    def __enter__(self) -> "Shown":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def done(self, reward: float) -> None:
        """One more rollout with this mean reward."""
        self.finished += 1
        each = (time.perf_counter() - self.began) / (self.finished - self.begun_with)
        told = f"reward {reward:.3f}  {each:.2f} s each  {clock(each * (self.total - self.finished))} left"
        self.bar.update(self.task, completed=self.finished, told=told)
        if not self.console.is_terminal:
            self.say(f"rollout {self.finished}/{self.total}  {told}")


def clock(seconds: float) -> str:
    """h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"

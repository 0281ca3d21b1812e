"""Long compiled calls that Ctrl-C interrupts: Python answers a signal only between its own instructions."""

import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 0.1
"""Seconds between two looks at whether somebody wants to leave."""


def interruptible(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) in a thread of its own, while this one stays able to answer Ctrl-C.

    After a KeyboardInterrupt the thread goes on until its call returns, and nobody waits for it, also when
    the program ends. For calls that take seconds and release the lock of the interpreter, as kernels do.
    Raises what the call raises.
    """
    answer: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(function(*args))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PATIENCE)
    if failure:
        raise failure[0]
    return answer[0]

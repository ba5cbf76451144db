"""Ctrl-C and SIGTERM that no library can swallow."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends what Ctrl-C ends, and in the same way."""


ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C (SIGINT) within it ends in KeyboardInterrupt, SIGTERM in Terminated.

    Whatever became of the exception inside: a library that handles every exception can turn it into
    an error of its own, or into none. Orbax, interrupted while it reads, says that no handler fits
    the checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():  # which has no signals
        yield
        return
    came: list[type[KeyboardInterrupt]] = []

    def note(number: int, _: Any) -> None:
        came.append(ENDS[number])
        raise ENDS[number]

    old = {number: signal.signal(number, note) for number in ENDS}
    try:
        yield
    except Exception as error:
        if came:
            raise came[-1] from error
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if came:
        raise came[-1]

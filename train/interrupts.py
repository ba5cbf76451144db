"""Ctrl-C that no library can swallow."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C (SIGINT) within it ends in KeyboardInterrupt, whatever became of the exception inside.

    A library that handles every exception can turn it into an error of its own, or into none:
    Orbax, interrupted while it reads, says that no handler fits the checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():  # which has no signals
        yield
        return
    came = False

    def note(*_: Any) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, old)
    if came:
        raise KeyboardInterrupt

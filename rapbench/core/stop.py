"""Ctrl-C and SIGTERM: either ends what the main thread does, wherever it is, and is not lost on the way.

Python raises an exception between any two lines. One raised in a destructor or a weak reference's callback it drops,
and a library may catch one that was not for it; both are made up for here.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 0.05  # seconds until a dropped signal is sent once more, by which time the callback is over


class Terminated(KeyboardInterrupt):
    """SIGTERM, as clusters send it before they kill; ends a run as Ctrl-C does."""


_asked: list[type[KeyboardInterrupt]] = []  # why to stop, while that is not done


@contextmanager
def stoppable() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt and SIGTERM Terminated within, in the main thread, until they are let out.

    A handler that a program has set stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {signal.SIGTERM: (signal.SIG_DFL, _terminate), signal.SIGINT: (signal.default_int_handler, _interrupt)}
    before = {number: signal.getsignal(number) for number in ours}
    dropped = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(unraisable.exc_value, Terminated) else signal.SIGINT
            _thread.start_new_thread(_send_again, (number,))  # takes no lock that the main thread may hold
        else:
            dropped(unraisable)

    _asked.clear()
    for number, (default, handler) in ours.items():
        if before[number] is default:
            signal.signal(number, handler)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = dropped
        for number, (default, _) in ours.items():
            if before[number] is default:
                signal.signal(number, default)
        _asked.clear()


def check() -> None:
    """Stop here if that was asked for and did not happen: somebody on the way has caught the exception."""
    if _asked:
        raise _asked[0]


def be_done() -> None:
    """Heed no further signal: the first is being answered."""
    for number, handler in ((signal.SIGTERM, _terminate), (signal.SIGINT, _interrupt)):
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:
    _asked.append(Terminated)
    raise Terminated


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.append(KeyboardInterrupt)
    raise KeyboardInterrupt


def _send_again(number: int) -> None:
    time.sleep(AGAIN)
    os.kill(os.getpid(), number)

"""Ctrl-C and SIGTERM end a command, wherever Python happens to raise their exception."""

import contextlib
import gc
import os
import signal
import time
import weakref
from collections.abc import Callable

import pytest

from rapbench.app.cli import ended
from rapbench.core import stop


class Thing:
    pass


def raised(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the exception is raised here


def in_a_weak_references_callback(number: int) -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: raised(number))
    del thing
    assert reference() is None


def in_a_destructor(number: int) -> None:
    class Dying:
        def __del__(self) -> None:
            raised(number)

    Dying()


def in_a_destructor_of_a_cycle(number: int) -> None:
    class Dying:
        def __del__(self) -> None:
            raised(number)

    first = Dying()
    first.itself = first
    del first
    gc.collect()


def caught_by_a_library(number: int) -> None:
    with contextlib.suppress(BaseException):
        raised(number)


def twice(number: int) -> None:
    for _ in range(2):
        in_a_weak_references_callback(number)


PLACES = [
    raised,
    in_a_weak_references_callback,
    in_a_destructor,
    in_a_destructor_of_a_cycle,
    caught_by_a_library,
    twice,
]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_the_command_wherever_it_is_raised(place: Callable[[int], None], number: int):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def action() -> str:
            place(number)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:  # as a run goes on to its next chunk
                stop.check()
            return "went on"

        os._exit(ended(action))
    started = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("place", PLACES[1:4])
def test_what_is_dropped_is_raised_again_without_a_look(place: Callable[[int], None]):
    """No check() is reached within a long call."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

        def action() -> str:
            place(signal.SIGTERM)
            time.sleep(5)
            return "went on"

        os._exit(ended(action))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_handlers_of_the_program_around_come_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert ended(lambda: "") == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    stop.check()  # nothing is asked any more

"""Processes that work ahead of this one, each with a pipe of its own: the death of one harms no other."""

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.stop import check

Task = Callable[[int], Any]
Result = tuple[int, Any, BaseException | None]  # a task's number, what it made, what it raised

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
ENDED = (-signal.SIGTERM, -KILL)  # by a scheduler, or by whoever sees to it that memory suffices
KILLS = 2  # of processes at one task, until the task is to blame


class Died(Exception):
    """A process is not there any more."""


class Worker:
    """A process that does numbered tasks in the order in which they are given. numbers: those that it has in hand."""

    def __init__(self, task: Task, method: str):
        """Start the process by a method of multiprocessing. Raises OSError where the system starts no more."""
        context: Any = multiprocessing.get_context(method)
        self.numbers: list[int] = []
        self._done: dict[int, tuple[Any, BaseException | None]] = {}
        self._doing = context.RawValue("l", -1)  # shared: what was made and not yet sent dies with the process
        self._pipe, theirs = context.Pipe()
        try:
            self._process = context.Process(target=_work, args=(task, theirs, self._doing), daemon=True)
            with _signals_wait(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of forking beside threads, none of whose locks are needed
                self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()  # here, so that the pipe ends with the process

    def give(self, number: int) -> None:
        """Hand a task over."""
        self.numbers.append(number)
        with contextlib.suppress(OSError):  # it is dead, as `result` finds
            self._pipe.send(number)

    def result(self, number: int) -> tuple[Any, BaseException | None]:
        """Return what a task made, or raised, waiting for it. Raises Died."""
        while number not in self._done:
            try:
                done, *result = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise Died from error
            self._done[done] = (result[0], result[1])
        self.numbers.remove(number)
        return self._done.pop(number)

    def died_of(self) -> tuple[int, int]:
        """Return the exit code of a process that died, and the task that it was doing."""
        self._process.join(5)
        pending = [number for number in self.numbers if number not in self._done]
        doing = self._doing.value
        return self._process.exitcode or 0, doing if doing in pending else pending[0]

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.kill()
        self._process.join(5)


def in_order(
    task: Task, count: int, workers: int, ahead: int, method: str, name: Callable[[int], str]
) -> Generator[Any]:
    """Yield task(0) to task(count - 1) from processes that have up to `ahead` of them in hand.

    A process that is ended from outside is not replaced: the others do its tasks, and without any, this one does.
    name: of a task, for messages. Raises what a task raises, and RapbenchError for a task that a process dies of.
    """
    pool: list[Worker] = []
    owners: dict[int, Worker] = {}
    waiting = list(range(count))[::-1]  # the next one last
    killed: Counter[int] = Counter()

    def hand_out() -> None:
        while pool and waiting and len(owners) < ahead:
            number = waiting.pop()
            owners[number] = min(pool, key=lambda worker: len(worker.numbers))
            owners[number].give(number)

    def bury(worker: Worker) -> None:
        code, doing = worker.died_of()
        worker.end()
        pool.remove(worker)
        for number in worker.numbers:
            del owners[number]
        waiting.extend(worker.numbers)
        waiting.sort(reverse=True)
        killed[doing] += code == -KILL
        if code not in ENDED or killed[doing] == KILLS:
            reason = "killed, as when memory runs out" if code in ENDED else f"exit code {code}"
            raise RapbenchError(f"processes die of decoding {name(doing)} ({reason}); mend or remove it")
        if len(pool) == started - 1:
            say(f"A process that decodes images was ended from outside (signal {-code}); going on without it.")

    try:
        for _ in range(workers):
            try:
                pool.append(Worker(task, method))
            except OSError:  # fewer, then
                break
        started = len(pool)
        for number in range(count):
            check()
            hand_out()
            while worker := owners.get(number):
                try:
                    value, error = worker.result(number)
                except Died:
                    bury(worker)
                    hand_out()
                    continue
                del owners[number]
                if error is not None:
                    raise error
                yield value
                break
            else:
                yield task(waiting.pop())
    finally:
        for worker in pool:
            worker.end()


def _work(task: Task, pipe: Connection, doing: Any) -> None:
    """Do the tasks that come through a pipe; what they make goes back as fast as it is taken.

    doing: shared with the main process, the number of the task in hand.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    torch.set_num_threads(1)  # the threads of the process that was forked are not here
    threading.Thread(target=_end_with_parent, daemon=True).start()
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    threading.Thread(target=_send, args=(results, pipe), daemon=True).start()
    while True:
        try:
            number = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        doing.value = number
        try:
            results.put((number, task(number), None))
        except Exception as error:
            results.put((number, None, _portable(error)))


def _send(results: queue.SimpleQueue[Result], pipe: Connection) -> None:
    while True:
        result = results.get()
        try:
            pipe.send(result)
        except OSError:
            os._exit(0)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent, with the place where it was raised as a note."""
    place = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(place)
    return error


def _end_with_parent() -> None:
    """End this process soon after the one that it works for, which may be killed and say nothing."""
    main = multiprocessing.parent_process()
    if main is None:
        return
    while os.getppid() == main.pid:
        time.sleep(1)
    main.join()  # of another parent (forkserver)
    os._exit(1)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let signals wait while a process is forked: it has the handlers of this one until it sets its own."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

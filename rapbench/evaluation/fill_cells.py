"""The loop that fills a job's cells chunk by chunk, beside other processes."""

import time
from contextlib import ExitStack, closing
from typing import Any

from tqdm import tqdm

from rapbench.core.console import say
from rapbench.core.errors import MethodError
from rapbench.core.stop import check
from rapbench.data.subset.images import load_images
from rapbench.evaluation.answers import forward_of
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.chunk import Chunk
from rapbench.evaluation.job import Job
from rapbench.store.heatmaps import Tap

BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} left"
PATIENCE = 1.0  # seconds between two looks at what other processes are doing


def fill_cells(job: Job) -> dict[str, str]:
    """Fill every cell, as far as the shard goes; what is in the store already is not computed again.

    Returns why for each method that could not be used; the other methods' cells are filled all the same.
    """
    refused: dict[str, str] = {}
    waiting = False
    forward = None
    while True:
        for cell in job.cells.values():
            cell.refresh()
        missing = _missing(job, refused)
        if not missing:
            return refused
        forward = forward or forward_of(job.model, job.spec.precision)
        if free := _free(job, missing):
            _pass(job, free, forward, refused)
        else:
            if not waiting:
                say("Other processes are computing what is missing; waiting for them.")
                waiting = True
            time.sleep(PATIENCE)


def _missing(job: Job, refused: dict[str, str]) -> dict[tuple[int, str], list[Choice]]:
    """Return the protocols still to do for each chunk of the shard and method, in the order of work."""
    work = {
        (number, label): [
            protocol
            for protocol in job.protocols
            if (cell := job.cells.get((label, protocol.label))) and not cell.has(number)
        ]
        for number in job.shard.of(len(job.slices))
        for label in job.methods
        if label not in refused
    }
    return {key: wanted for key, wanted in work.items() if wanted}


def _free(job: Job, missing: dict[tuple[int, str], list[Choice]]) -> dict[tuple[int, str], list[Choice]]:
    """Return what no other process is computing now."""
    free = {}
    for (number, label), wanted in missing.items():
        with ExitStack() as claims:
            if unclaimed := [protocol for protocol in wanted if _claimed(job, claims, number, label, protocol)]:
                free[number, label] = unclaimed
    return free


def _claimed(job: Job, claims: ExitStack, number: int, label: str, protocol: Choice) -> bool:
    claim = job.cells[label, protocol.label].claim(number)
    if claim:
        claims.enter_context(claim)
    return claim is not None


def _pass(job: Job, todo: dict[tuple[int, str], list[Choice]], forward: Any, refused: dict[str, str]) -> None:
    """Go once through the chunks; what another process claims or finishes meanwhile is left to it."""
    cost = _costs(job, todo)
    say(f"{job.model.facts.name}: about {sum(cost.values()):,.0f} forward passes.")
    numbers = sorted({number for number, _ in todo})
    slices = [job.slices[number] for number in numbers]
    with (
        closing(load_images(job.subset, job.dataset, job.model.transform, slices)) as images,
        tqdm(total=sum(cost.values()), bar_format=BAR, dynamic_ncols=True) as bar,
    ):
        done = 0.0

        def seen(images: Any) -> Any:
            check()
            logits = forward(images)
            bar.update(len(images))
            return logits

        def attributed(passes: float) -> None:
            check()
            bar.update(passes)

        told: set[str] = set()

        def missed(label: str, reason: str) -> None:
            line = f"{label}: no value where its heatmap could not be recomputed: {reason}"
            if line not in told:
                told.add(line)
                say(line)

        for number, pixels in zip(numbers, images, strict=True):
            chunk = job.chunk(number, pixels, seen)
            chunk.attributed, chunk.missed = attributed, missed
            for label, wanted in ((label, wanted) for (n, label), wanted in todo.items() if n == number):
                bar.set_description_str(f"{job.model.facts.name} · {label}")
                if label not in refused:
                    check()
                    try:
                        _fill(job, chunk, label, wanted)
                    except MethodError as error:
                        refused[label] = str(error)
                        say(f"skipped: {label}: {error}")
                done += cost[number, label]
                bar.update(done - bar.n)  # attribution's share, and what another process did
        bar.set_description_str(f"{job.model.facts.name} · done")


def _fill(job: Job, chunk: Chunk, label: str, wanted: list[Choice]) -> None:
    with ExitStack() as claims:
        mine = []
        for protocol in wanted:
            cell = job.cells[label, protocol.label]
            if _claimed(job, claims, chunk.number, label, protocol):
                cell.refresh()
                if not cell.has(chunk.number):
                    mine.append(protocol)
        if not mine:
            return
        kept, count = job.kept.get(label), job.spec.gallery - chunk.first
        tapped = Tap(kept, job.shown[label], count) if count > 0 else kept
        for protocol, columns in chunk.evaluate(job.methods[label], mine, tapped):
            job.cells[label, protocol.label].write(chunk.number, columns)


def _costs(job: Job, todo: dict[tuple[int, str], list[Choice]]) -> dict[tuple[int, str], float]:
    """Return the forward passes of each chunk and method; what all methods share is the first one's."""
    costs, shared = {}, set()
    for (number, label), wanted in todo.items():
        facts = job.methods[label].entry.facts
        passes = facts.passes
        for choice in wanted:
            passes += choice.protocol.asked(facts.signs) + facts.passes * choice.protocol.recomputed()
            if (number, choice.label) not in shared:
                shared.add((number, choice.label))
                passes += choice.protocol.asked_once()
        costs[number, label] = passes * job.count(number)
    return costs

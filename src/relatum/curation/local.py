"""The embedded engine: as many watched processes as the machine has cores. Threads of the standard library hand videos to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from .guard import Guard, attend
from .item import Item, Job

__all__ = ["run_local"]

AHEAD = 2  # videos a process that are handed out at once


def run_local(items: Iterable[Item], job: Job) -> Iterator[tuple[Item, dict[str, Any]]]:
    """(item, what it cost) as they are done."""
    count = job.recipe.engine.workers or os.cpu_count() or 1
    own, guards = threading.local(), []

    def work(item: Item) -> tuple[Item, dict[str, Any]]:
        if not hasattr(own, "guard"):
            own.guard = Guard(job)
            guards.append(own.guard)
        return item, attend(item, job, own.guard)

    pool = ThreadPoolExecutor(count)
    try:
        waiting: set[Future[tuple[Item, dict[str, Any]]]] = set()
        for item in items:
            waiting.add(pool.submit(work, item))
            if len(waiting) >= AHEAD * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for guard in guards:
            guard.end()
        pool.shutdown()
        for guard in guards:
            guard.close()

"""The same videos on a cluster, or on this machine, through Ray Data: its actors each watch a process as the embedded engine does.

No frame and no file travels: an actor is told a path, which must lead to the same file on every machine, and writes what it finds
into the run's folder, which they share.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra, RelatumError
from .guard import Guard, attend
from .item import Item, Job
from .plan import plan_of
from .recipe import curation_of, table_of

__all__ = ["Actor", "blocks_of", "map_rows", "run_ray"]

RESTARTS = 3  # times that an actor whose machine went away is started again, and a block that it had is given to another
BLOCK = 64  # rows that an actor is handed at once, at most
EACH = 16  # blocks an actor, at least, as far as there are rows
FAILED = 100  # rows that may fail before the run is ended


def run_ray(items: Iterable[Item], job: Job) -> Iterator[tuple[Item, dict[str, Any]]]:
    """(item, what it cost) as they are done."""
    rows = [{**asdict(item), "path": os.path.abspath(item.path)} for item in items]
    for answer in map_rows(rows, _Watched, job, actors=job.recipe.engine.workers):
        yield _item(answer["item"]), answer["cost"]


class Actor(ABC):
    """One process of Ray's that does rows of JSON values. A row that fails is answered with why, and costs no other."""

    def __init__(self, table: Mapping[str, Any], folder: str, stills: int, place: str) -> None:
        if os.path.isdir(place):
            os.chdir(place)  # so that relative paths of stages (models) are those of whoever runs the recipe
        self.fault = ""
        try:
            recipe = curation_of(table, Path(folder))
            self.job = Job(recipe, plan_of(recipe), stills)
            self.open()
        except Exception as error:
            self.fault = _words(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = {"error": self.fault} if self.fault else {"answer": self.done(json.loads(row["row"]))}
        except Exception as error:
            answer = {"error": _words(error)}
        return {"row": json.dumps(answer)}

    @abstractmethod
    def open(self) -> None:
        """Makes what is needed for `done`, once."""

    @abstractmethod
    def done(self, row: Any) -> Any: ...


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RelatumError | OSError) else f"{type(error).__name__}: {error}"


class _Watched(Actor):
    """One guard and its process."""

    def open(self) -> None:
        self.guard = Guard(self.job)

    def done(self, row: Any) -> Any:
        return {"item": row, "cost": attend(_item(row), self.job, self.guard)}


def _item(row: Mapping[str, Any]) -> Item:
    return Item(row["content"], row["path"], tuple(row["member"]) if row["member"] else None, tuple(row["stamp"]))


def blocks_of(rows: int, actors: int) -> int:
    """Into how many blocks rows are cut: each actor gets several, and none is large.

    >>> blocks_of(3, 2), blocks_of(1000, 4), blocks_of(10**6, 4)
    (3, 64, 15625)
    """
    return min(rows, max(actors * EACH, -(-rows // BLOCK)))


def map_rows(rows: Sequence[Any], actor: Callable[..., Any], job: Job, actors: int, gpus: float = 0) -> Iterator[Any]:
    """What a pool of actors answers to rows of JSON values, in any order; starts Ray on this machine where no address is given.

    actor: a class of `Actor`s. DataError where rows failed, once all others are done or a hundred failed.
    """
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise MissingExtra("ray", "ray", 'engine.kind = "ray"') from error
    if not rows:
        return
    if not ray.is_initialized():
        address = job.recipe.engine.address or None
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    count = min(actors or max(int(ray.cluster_resources().get("CPU", 1)), 1), len(rows))
    data = ray.data.from_items([{"row": json.dumps(row)} for row in rows], override_num_blocks=blocks_of(len(rows), count))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ray_remote_args.* is deprecated")  # there is no other name for these two
        answers = data.map(
            actor,
            fn_constructor_args=_sent(job),
            compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
            num_cpus=1.0,
            num_gpus=gpus or None,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
        )
    failed: list[str] = []
    try:
        for row in answers.iter_rows():
            answer = json.loads(row["row"])
            if "error" not in answer:
                yield answer["answer"]
                continue
            failed.append(answer["error"])
            if len(failed) >= FAILED:
                break
    except ray.exceptions.RayError as error:  # actors or machines went away too often
        raise DataError(f"curation: Ray gave up ({str(error).strip().splitlines()[-1]}); the same command goes on") from error
    if failed:
        raise DataError(f"curation: {len(failed)} of {len(rows)} tasks failed on Ray, the first: {failed[0]}")


def _sent(job: Job) -> tuple[dict[str, Any], str, int, str]:
    """What an actor is made with: paths that mean the same from any folder, and the folder that others begin at."""
    recipe = job.recipe
    table = {**table_of(recipe), "output_dir": str(recipe.run.resolve())}
    return table, str(recipe.folder.resolve()), job.stills, os.getcwd()

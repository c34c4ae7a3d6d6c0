"""The same videos on a cluster, or on this machine, through Ray Data: its actors each watch a process as the embedded engine does.

No frame and no file travels: an actor is told a path, which must lead to the same file on every machine, and writes what it finds
into the run's folder, which they share.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import MissingExtra
from .guard import Guard, attend
from .item import Item, Job
from .plan import plan_of
from .recipe import curation_of, table_of

__all__ = ["map_rows", "run_ray"]


def run_ray(items: Iterable[Item], job: Job) -> Iterator[tuple[Item, dict[str, Any]]]:
    """(item, what it cost) as they are done."""
    rows = [{**asdict(item), "member": json.dumps(item.member)} for item in items]
    engine = job.recipe.engine
    about = (table_of(job.recipe), str(job.recipe.folder), job.stills)
    for row in map_rows(rows, _Watched, about, job, actors=engine.workers, cpus=1.0):
        yield _item(row), json.loads(row["cost"])


class _Watched:
    """An actor: one guard and its process."""

    def __init__(self, table: Mapping[str, Any], folder: str, stills: int) -> None:
        recipe = curation_of(table, Path(folder))
        self.job = Job(recipe, plan_of(recipe), stills)
        self.guard = Guard(self.job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "cost": json.dumps(attend(_item(row), self.job, self.guard))}


def _item(row: Mapping[str, Any]) -> Item:
    member = json.loads(row["member"])
    return Item(row["content"], row["path"], tuple(member) if member else None)


def map_rows(
    rows: list[dict[str, Any]],
    actor: Callable[..., Any],
    about: tuple[Any, ...],
    job: Job,
    actors: int,
    cpus: float,
    gpus: float = 0,
) -> Iterator[dict[str, Any]]:
    """Rows through a pool of actors, each made with `about`; starts Ray on this machine where no address is given."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray", 'engine.kind = "ray"') from error
    if not rows:
        return
    if not ray.is_initialized():
        address = job.recipe.engine.address or None
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    count = actors or max(int(ray.cluster_resources().get("CPU", 1)), 1)
    count = min(count, len(rows))
    pool = ray.data.ActorPoolStrategy(size=count)
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    answers = data.map(actor, fn_constructor_args=about, compute=pool, num_cpus=cpus, num_gpus=gpus or None)
    yield from answers.iter_rows()

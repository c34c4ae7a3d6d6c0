"""Looks over the clips of many videos: here, or in actors of a cluster. Both give the same answers, which the store keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import Look, Shown
from .item import Job
from .looking import JpegStills, look_at
from .manifest import Said
from .plan import plan_of
from .reading import clips_of, errors_of, facts_of
from .recipe import curation_of, table_of

__all__ = ["Texts", "ask_all"]

Texts = Mapping[str, Sequence[str]]
"""Captions of a video by kind, as the inputs gave them."""

TOGETHER = 64  # clips of different videos that are looked at in one go, at least


def ask_all(texts: Mapping[str, Texts], job: Job) -> Iterator[tuple[str, Said, Mapping[str, float]]]:
    """(content, what the recipe's looks say of its clips, seconds by look) of every video, as it is known. texts: by content."""
    if not job.plan.looks:
        return
    if job.recipe.engine.kind == "ray":
        yield from _on_ray(texts, job)
        return
    looks = _opened(job)
    waiting: dict[str, list[Shown]] = {}
    for content in texts:
        waiting[content] = list(_shown(content, texts[content], job))
        if sum(map(len, waiting.values())) >= TOGETHER:
            yield from _asked(waiting, looks, job)
            waiting = {}
    yield from _asked(waiting, looks, job)


def _asked(
    waiting: Mapping[str, Sequence[Shown]], looks: Mapping[str, Look], job: Job
) -> Iterator[tuple[str, Said, dict[str, float]]]:
    looked = look_at(looks, [shown for some in waiting.values() for shown in some], job.stills_key, job.store)
    seconds = looked.seconds
    for content, some in waiting.items():
        ids = [shown.clip.id for shown in some]
        yield content, {clip: (looked.facts[clip], looked.errors.get(clip, [])) for clip in ids}, seconds
        seconds = {}


def _opened(job: Job) -> Mapping[str, Look]:
    import torch

    device = job.recipe.engine.device or ("cuda" if torch.cuda.is_available() else "cpu")
    for look in job.plan.looks.values():
        look.open(device)
    return job.plan.looks


def _shown(content: str, texts: Texts, job: Job) -> Iterable[Shown]:
    """The clips of a video that no measure failed of."""
    record = job.store.read(content)
    clips = clips_of(record, job.plan) if record is not None else []
    if record is None or not clips:
        return
    for clip, facts in zip(clips, facts_of(record, clips, job.plan), strict=True):
        if not errors_of(record, clip):
            yield Shown(clip, JpegStills(job.store, content, job.stills_key, clip.id), texts, facts)


def _on_ray(texts: Mapping[str, Texts], job: Job) -> Iterator[tuple[str, Said, dict[str, float]]]:
    from .on_ray import map_rows

    engine = job.recipe.engine
    rows = [{"content": content, "texts": json.dumps(said)} for content, said in texts.items()]
    about = (table_of(job.recipe), str(job.recipe.folder), job.stills)
    for row in map_rows(rows, _Asker, about, job, actors=engine.actors, cpus=1.0, gpus=engine.gpus):
        said = {clip: (facts, errors) for clip, facts, errors in json.loads(row["said"])}
        yield row["content"], said, json.loads(row["seconds"])


class _Asker:
    """An actor that holds the models."""

    def __init__(self, table: Mapping[str, Any], folder: str, stills: int) -> None:
        recipe = curation_of(table, Path(folder))
        self.job = Job(recipe, plan_of(recipe), stills)
        self.looks = _opened(self.job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shown = list(_shown(row["content"], json.loads(row["texts"]), self.job))
        (_, said, seconds), *_ = _asked({row["content"]: shown}, self.looks, self.job)
        told = json.dumps([[clip, facts, list(errors)] for clip, (facts, errors) in said.items()])
        return {"content": row["content"], "said": told, "seconds": json.dumps(seconds)}

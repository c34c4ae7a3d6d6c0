"""Looks over the clips of many videos: here, or in actors of a cluster. Both give the same answers, which the store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .base import Look, Shown
from .item import Job
from .looking import JpegStills, look_at
from .manifest import IDENTITY, Said, split_of
from .on_ray import Actor, map_rows
from .plan import key_of
from .reading import facts_of

__all__ = ["Texts", "ask_all", "chunks_of"]

Texts = Mapping[str, Sequence[str]]
"""Captions of a video by kind, as the inputs gave them."""

SECONDS, VIDEOS = 300.0, 64  # of video that are looked at in one go: as soon as there are so many


def ask_all(texts: Mapping[str, Texts], job: Job) -> Iterator[tuple[str, Said, Mapping[str, float]]]:
    """(content, what the recipe's looks say of its clips, seconds by look) of every video, as it is known. texts: by content."""
    if not job.plan.looks:
        return
    if job.recipe.engine.kind == "ray":
        yield from _on_ray(texts, job)
        return
    looks = _opened(job)
    for chunk in chunks_of(texts, job):
        yield from _asked(chunk, looks, job)


def chunks_of(texts: Mapping[str, Texts], job: Job) -> Iterator[dict[str, Texts]]:
    """The videos that are looked at together, in order of their contents: the same on any engine, so that a model, whose answers
    may hang on its batch, sees the same batches."""
    chunk, seconds = dict[str, Texts](), 0.0
    for content in sorted(texts):
        record = job.store.read(content, tracks=False)
        chunk[content] = texts[content]
        seconds += record.facts.get("duration_s", 0.0) if record is not None and not record.failed else 0.0
        if seconds >= SECONDS or len(chunk) >= VIDEOS:
            yield chunk
            chunk, seconds = {}, 0.0
    if chunk:
        yield chunk


def _asked(chunk: Mapping[str, Texts], looks: Mapping[str, Look], job: Job) -> Iterator[tuple[str, Said, dict[str, float]]]:
    waiting = {content: list(_shown(content, texts, job)) for content, texts in chunk.items()}
    looked = look_at(looks, [shown for some in waiting.values() for shown in some], job.stills_key, job.store)
    writers = {f"{name}.{IDENTITY}": key_of(look.identity()) for name, look in looks.items() if "text" in look.writes}
    seconds = looked.seconds
    for content, some in waiting.items():
        ids = [shown.clip.id for shown in some]
        yield content, {clip: ({**looked.facts[clip], **writers}, looked.errors.get(clip, [])) for clip in ids}, seconds
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
    clips = split_of(record, job.plan)[0] if record is not None else []
    if record is None or not clips:
        return
    for clip, facts in zip(clips, facts_of(record, clips, job.plan), strict=True):
        if "error" not in facts:
            yield Shown(clip, JpegStills(job.store, content, job.stills_key, clip.id), texts, facts)


def _on_ray(texts: Mapping[str, Texts], job: Job) -> Iterator[tuple[str, Said, dict[str, float]]]:
    engine = job.recipe.engine
    for answer in map_rows(list(chunks_of(texts, job)), _Asker, job, actors=engine.actors, gpus=engine.gpus):
        for content, said, seconds in answer:
            yield content, {clip: (facts, errors) for clip, (facts, errors) in said.items()}, seconds


class _Asker(Actor):
    """Holds the models; a row is a chunk."""

    def open(self) -> None:
        self.looks = _opened(self.job)

    def done(self, row: Any) -> Any:
        return list(_asked(row, self.looks, self.job))

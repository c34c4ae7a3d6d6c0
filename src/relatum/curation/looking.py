"""Looks run over clips: in the recipe's order, each seeing what those before it said; in batches that shrink when memory runs out;
a clip that fails loses its own facts alone; what was said is stored by video and asked once."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import DataError
from .base import Fact, Facts, Look, Shown
from .plan import key_of
from .store import Store

__all__ = ["ERROR", "JpegStills", "Looked", "errors_in", "key_of_look", "look_at", "needed", "pick"]

ERROR = "error"  # beside a look's facts, where it failed: why
LEAST, LEAST_WITH_LOOKS = 3, 9
WAITING = 256  # clips that may be looked at before what was said of them is written


def pick(count: int, of: int) -> list[int]:
    """Places of `count` stills among `of`, evenly from the first to the last, one: the middle. Some twice where there are fewer.

    >>> pick(3, 9), pick(1, 9), pick(8, 9), pick(3, 2)
    ([0, 4, 8], [4], [0, 1, 2, 3, 5, 6, 7, 8], [0, 0, 1])
    """
    if of < 1:
        return []
    return np.rint([(of - 1) / 2] if count == 1 else np.linspace(0, of - 1, count)).astype(int).tolist()


def needed(looks: Mapping[str, Look]) -> int:
    """How many stills a clip is stored with: an odd number, so that its middle is among them.

    At least 9 where anything looks at them, so that a look that is added rarely changes what the others were shown.
    """
    most = max((look.stills for look in looks.values()), default=0)
    return max(LEAST if not most else LEAST_WITH_LOOKS, most + 1 - most % 2)


@dataclass(frozen=True)
class JpegStills(Sequence[np.ndarray]):
    """A clip's stills, (h w 3) uint8 RGB, opened and decoded when they are asked for."""

    store: Store
    content: str
    key: str
    clip: str

    def __len__(self) -> int:
        return len(self.store.stills(self.content, self.key, self.clip))

    def __getitem__(self, place: Any) -> Any:
        found = self.store.stills(self.content, self.key, self.clip)[place]
        return [_decoded(data) for data in found] if isinstance(place, slice) else _decoded(found)

    def at(self, places: Sequence[int]) -> list[np.ndarray]:
        found = self.store.stills(self.content, self.key, self.clip)
        decoded = {place: _decoded(found[place]) for place in set(places)}
        return [decoded[place] for place in places]


def _decoded(data: bytes) -> np.ndarray:
    import cv2

    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise DataError("a stored still is no JPEG that can be read")
    return np.ascontiguousarray(found[..., ::-1])


def key_of_look(look: Look, stills: str, clips: Sequence[Shown]) -> str:
    """Changes with whatever may change what a look says of a video's clips; not with its name.

    stills: what identifies the stored ones. clips: all of the video, with the texts and facts that the look will see. A look that
    declares `reads`, kinds of captions, depends on these texts alone; another one on all there is.
    """
    reads: tuple[str, ...] | None = getattr(look, "reads", None)
    cheap = getattr(look, "cheap", ("batch_size",))
    fields = [f.name for f in dataclasses.fields(look) if f.init and f.name not in cheap]  # type: ignore[arg-type]
    settings = {name: getattr(look, name) for name in fields}
    seen: list[Any] = [stills, look.stills] if look.stills else []
    if reads is None or reads:
        seen += [[clip.clip.id, _texts(clip, reads), dict(clip.facts) if reads is None else {}] for clip in clips]
    return key_of(type(look).__qualname__, look.version, settings, look.identity(), seen)


def _texts(clip: Shown, reads: tuple[str, ...] | None) -> dict[str, list[str]]:
    return {kind: list(texts) for kind, texts in clip.texts.items() if texts and (reads is None or kind in reads)}


@dataclass
class Looked:
    """facts: by clip id, under their full names, None where a look failed. errors: "NAME: words" by clip id.

    asked: clips by look that its model saw this time; seconds: the time that it took.
    """

    facts: dict[str, dict[str, Fact]] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)


def look_at(looks: Mapping[str, Look], shown: Sequence[Shown], stills: str, store: Store) -> Looked:
    """What the looks, which are open, say of clips of any number of videos; of each video all clips in one call.

    shown: with all stored stills (`JpegStills`), texts of the inputs, facts of the measures. stills: what identifies the stored
    ones. Clips of which a look failed are asked about again, each time; what is stored of them is the error.
    """
    looked = Looked({clip.clip.id: {} for clip in shown})
    now = {clip.clip.id: clip for clip in shown}
    videos: dict[str, list[str]] = {}
    for clip in shown:
        videos.setdefault(clip.clip.content, []).append(clip.clip.id)
    for name, look in looks.items():
        began, kind = time.perf_counter(), type(look).__qualname__
        keys = {content: key_of_look(look, stills, [now[clip] for clip in clips]) for content, clips in videos.items()}
        known = {content: dict(store.look(content, kind, key) or {}) for content, key in keys.items()}
        due = [clip for clip in now.values() if ERROR in known[clip.clip.content].get(clip.clip.id, {ERROR: ""})]
        waiting = Counter[str]()
        left = Counter(clip.clip.content for clip in due)
        for clip, facts in _answers(look, due):
            content = clip.clip.content
            known[content][clip.clip.id] = facts
            waiting[content] += 1
            left[content] -= 1
            if not left[content] or waiting[content] >= WAITING:
                store.write_look(content, kind, keys[content], known[content])
                waiting[content] = 0
        for clip in shown:
            _add(looked, now, name, look, clip.clip.id, known[clip.clip.content][clip.clip.id])
        looked.asked[name] = len(due)
        looked.seconds[name] = time.perf_counter() - began
    return looked


def errors_in(name: str, facts: Facts) -> list[str]:
    """Why a look failed of a clip, as it is stored: "NAME: words", or nothing."""
    return [f"{name}: {facts[ERROR]}"] if ERROR in facts else []


def _add(looked: Looked, now: dict[str, Shown], name: str, look: Look, clip: str, facts: Facts) -> None:
    """Takes a look's facts of one clip in, so that the next look sees them."""
    named: dict[str, Fact] = {f"{name}.{fact}": facts.get(fact) for fact in look.writes}
    looked.facts[clip] |= named
    if errors := errors_in(name, facts):
        looked.errors.setdefault(clip, []).extend(errors)
    texts, text = now[clip].texts, facts.get("text")
    if "text" in look.writes:
        texts = {**texts, name: [text] if isinstance(text, str) else []}
    now[clip] = replace(now[clip], texts=texts, facts={**now[clip].facts, **named})


def _answers(look: Look, due: Sequence[Shown]) -> Iterator[tuple[Shown, Facts]]:
    """Each clip with its facts, in order. Memory that ran out leaves the batches smaller for good."""
    size, done = max(1, look.batch_size), 0
    while done < len(due):
        batch = due[done : done + size]
        try:
            facts = _asked(look, batch)
        except Exception as error:
            if _out_of_memory(error) and len(batch) > 1:
                size = (len(batch) + 1) // 2
                continue
            facts = [_alone(look, clip) for clip in batch] if len(batch) > 1 else [_failed(look, error)]
        yield from zip(batch, facts, strict=True)
        done += len(batch)


def _alone(look: Look, clip: Shown) -> Facts:
    try:
        return _asked(look, [clip])[0]
    except Exception as error:
        _out_of_memory(error)
        return _failed(look, error)


def _failed(look: Look, error: Exception) -> Facts:
    words = " ".join(str(error).split()) or "no words"
    return {**dict.fromkeys(look.writes), ERROR: f"{type(error).__name__}: {words[:300]}"}


def _asked(look: Look, batch: Sequence[Shown]) -> list[Facts]:
    """The look's answer, with exactly its number of stills. DataError for facts that are not those that it says it writes."""
    facts = look([replace(clip, stills=_stills(clip, look.stills)) for clip in batch])
    if len(facts) != len(batch):
        raise DataError(f"gave facts of {len(facts)} clips for {len(batch)}")
    for found in facts:
        if set(found) != set(look.writes):
            raise DataError(f"gave {', '.join(sorted(found)) or 'nothing'}; it writes {', '.join(look.writes)}")
        for fact, value in found.items():
            _check(fact, value)
    return facts


def _check(fact: str, value: Any) -> None:
    for single in value if isinstance(value, list) else [value]:
        if single is not None and not isinstance(single, float | int | str):
            raise DataError(f"{fact} is of type {type(single).__name__}; a fact is a number, a text, None, or a list of these")
        if isinstance(single, float) and not math.isfinite(single):
            raise DataError(f"{fact} is not finite")


def _stills(clip: Shown, count: int) -> Sequence[np.ndarray]:
    if not count:
        return ()
    places = pick(count, len(clip.stills))
    if not places:
        raise DataError("the clip has no stills")
    return clip.stills.at(places) if isinstance(clip.stills, JpegStills) else [clip.stills[place] for place in places]


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of this machine or of a GPU, whose cache is then given back."""
    words = str(error).lower()
    ran_out = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not ran_out and not any(told in words for told in ("out of memory", "can't allocate memory", "failed to allocate")):
        return False
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True

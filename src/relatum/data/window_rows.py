"""Rows of clips out of a video: the frames of each window as a clip that is not read yet, and its times as facts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import torch

from ..core.errors import DataError
from .clips import Clip, Entry, Ranges
from .refs import brief
from .rows import ImageRef, Row, Shot
from .windows import EDGE, NEW, SAME, STILL, Places, Window, WindowLaw, draw_windows, find_places, repeats

__all__ = ["Frames", "shared_captions", "window_rows"]


@dataclass(frozen=True)
class Frames:
    """Images that follow each other at equal distances, as a ClipRef. cuts: k where frame k + 1 does not belong to frame k.

    Neighbors are joined unless they are cut, or the later one shows the earlier one again: the same image, or `windows.repeats` of
    what their pixels differ by, between two cuts.
    """

    images: Sequence[ImageRef]
    where: str
    cuts: tuple[int, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """Of the images and the cuts, and of the rule for repeats."""
        known = {image: image.digest() for image in dict.fromkeys(self.images)}
        words = [known[image] for image in self.images]
        return hashlib.sha256(" ".join(map(str, (*words, self.cuts, SAME, STILL, NEW, EDGE))).encode()).hexdigest()

    def shot(self, size: int) -> Shot:
        """(t 3 size size), and (t - 1) joined. DataError if an image cannot be read."""
        pixels = torch.stack([image.pixels(size) for image in self.images])
        changes = (pixels[1:] - pixels[:-1]).abs().mean((1, 2, 3)).mul(127.5).tolist()
        joined = [a != b for a, b in zip(self.images, self.images[1:], strict=False)]
        begin = 0
        for cut in (*self.cuts, len(changes)):
            for step, again in enumerate(repeats(changes[begin:cut]), begin):
                joined[step] &= not again
            if cut < len(changes):
                joined[cut] = False
            begin = cut + 1
        return Shot(pixels, torch.tensor(joined))


def window_rows(entry: Entry, clip: Clip, shots: Ranges, group: str, skipped: list[str], law: WindowLaw) -> Iterator[Row]:
    """The clips of a video, ascending in time. DataError where none fits, or the video is one that the law refuses."""
    lost: Set[int] = clip.lost() if law.on_cut != "split" else frozenset()
    if law.on_cut == "stop":
        _refuse_cut(entry, clip, shots, lost)
    places = find_places(clip.times, shots, lost, law)
    _refuse_repeats(entry, clip, places, law)
    if not len(places.starts):
        raise DataError(f"{entry.where}: no clip fits: {_too_short(clip, shots, law)}")
    windows = draw_windows(clip.times, shots, places.starts, law, entry.name)
    skipped += [f"{entry.where}: {note}" for note in _notes(windows, clip, law)]
    for window in windows:
        yield _row(entry, clip, shots, group, window, law)


def shared_captions(rows: Sequence[Row]) -> list[str]:
    """A line that says how many videos have a caption that others have too; none where every caption is of one video."""
    videos = Counter(text for text, _ in {(row.texts["target"], row.facts["video"]) for row in rows})
    shared = {text: count for text, count in videos.items() if count > 1}
    if not shared:
        return []
    text, most = max(shared.items(), key=lambda item: item[1])
    alone = f"{most} videos share one caption, {brief(text, 60)!r}"
    more = f"{len(shared)} captions stand with several videos each; {alone}"
    return [f"{alone if len(shared) == 1 else more}; nothing is left out"]


def _row(entry: Entry, clip: Clip, shots: Ranges, group: str, window: Window, law: WindowLaw) -> Row:
    first = window.frames[0]
    shot = next((number for number, (start, stop) in enumerate(shots) if start <= first < stop), 0)
    facts = {"offset": law.stride, "spacing": law.stride, "video": entry.name, "source_time": round(clip.times[first], 6)}
    where = f"{entry.where} clip {window.number}"
    frames = Frames(tuple(clip.frame(index) for index in window.frames), where, window.cuts)
    texts = {"target": entry.caption(law.seed, window.number, shot)}
    return Row(f"{entry.name}:{window.number}", group, {}, texts, facts=facts, where=where, clips={"target": frames})


def _refuse_cut(entry: Entry, clip: Clip, shots: Ranges, lost: Set[int]) -> None:
    inside = {index for start, stop in shots for index in range(start, stop)} | lost
    outside = next((index for index in range(len(clip.times)) if index not in inside), None)
    if outside is not None:
        raise DataError(
            f"{entry.where}: holds a cut near {clip.times[outside]:.2f} s, and on_cut is 'stop'; cut the file there, leave it "
            "out, or set on_cut to 'split' (clips lie within shots) or 'mask' (frames are not compared across a cut)"
        )


def _refuse_repeats(entry: Entry, clip: Clip, places: Places, law: WindowLaw) -> None:
    if len(places.repeating) and (law.on_repeat == "stop" or not len(places.starts)):
        apart = f"{max(b - a for a, b in zip(clip.times, clip.times[1:], strict=False)):.3g} s"
        raise DataError(
            f"{entry.where}: has too few frames: they lie up to {apart} apart, so that clips with stride = {law.stride:g} s show "
            f"some twice, and on_repeat is {law.on_repeat!r}; raise stride, leave the video out, or set on_repeat to 'mask'"
        )


def _too_short(clip: Clip, shots: Ranges, law: WindowLaw) -> str:
    least = f"{law.frames} frames every {law.stride:g} s span {law.span:.3g} s"
    whole = f"the video has {_count(len(clip.times), 'frame')} in {clip.duration:.3g} s"
    if not shots:
        return f"{least}; {whole}, all of it cuts, fades or damage; leave it out, or take it for one shot by cuts = false"
    start, stop = max(shots, key=lambda shot: clip.times[shot[1] - 1] - clip.times[shot[0]])
    longest = f"{clip.times[stop - 1] - clip.times[start]:.3g} s ({_count(stop - start, 'frame')})"
    return f"{least}; {whole}, {_count(len(shots), 'shot')}, the longest of {longest}; leave it out, or lower frames or stride"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _notes(windows: Sequence[Window], clip: Clip, law: WindowLaw) -> Iterator[str]:
    if len(windows) < law.per_video:
        yield f"{len(windows)} of {law.per_video} clips; there are no more different ones"
    crossing, held = sum(bool(window.cuts) for window in windows), sum(window.held for window in windows)
    if crossing:
        yield f"{crossing} of {len(windows)} clips cross a cut; frames are not compared across it"
    if held:
        rate = (len(clip.times) - 1) / (clip.times[-1] - clip.times[0])
        steps = len(windows) * (law.frames - 1)
        yield (
            f"{held} of {steps} steps of its clips show a frame twice ({rate:.3g} frames/s, stride = {law.stride:g} s); "
            "those frames are not compared"
        )

"""The samples of an export, video by video or clip by clip: pairs, triplets, stills, clips, and rows of ranges."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.draws import key_of
from ..core.errors import DataError
from ..data.clips import Entry
from ..data.curated import Curated
from ..data.footage import Footage
from ..data.kept import KeptClip, KeptVideo
from ..data.shards import Made, Sample, Unit
from ..video.decode import Reader, visit
from ..video.excerpt import excerpt
from .outputs import Output
from .sifting import Sifted, sift

__all__ = ["SILENT", "ranges_of", "units_of"]

SILENT = "the clip has no caption"
BAD = "the video cannot be used"
Maker = Callable[[Entry, Footage], Made]


def units_of(run: Path, output: Output, scratch: Path) -> list[Unit]:
    """One unit a video of pairs, triplets and stills, one a clip of clips. scratch: where indices of videos lie meanwhile."""
    reading = Curated(run, on_bad_row=output.on_bad_row, index_folder=str(scratch))
    opened, units = _Opened(reading), list[Unit]()
    for entry, video in _wanted(reading, output):
        chosen = _chosen(video, output)
        if output.kind == "clips":
            makers: list[Maker] = [partial(_clip, video=video, place=place, output=output) for place in chosen]
        elif output.kind == "stills":
            makers = [partial(_stills, video=video, chosen=chosen, output=output)]
        else:
            makers = [partial(_pairs, video=video, output=output)]
        units += [partial(_checked, opened, entry, maker) for maker in makers]
    silent = list(reading.skipped)
    return [*units, lambda: Made(dropped={SILENT: len(silent)}, notes=silent)] if silent else units


def _wanted(reading: Curated, output: Output) -> Iterator[tuple[Entry, KeptVideo]]:
    """The videos of the split that is asked for."""
    for entry in reading.entries():
        if output.split in ("", reading.kept(entry).split):
            yield entry, reading.kept(entry)


class _Opened:
    """The video that was opened last, for the next of its clips: it is hashed and listed once."""

    def __init__(self, reading: Curated) -> None:
        self.reading, self.last = reading, dict[str, Footage]()

    def __call__(self, entry: Entry) -> Footage:
        if entry.name not in self.last:
            self.last = {entry.name: self.reading.open_clip(entry)}
        return self.last[entry.name]


def _checked(opened: _Opened, entry: Entry, make: Maker) -> Made:
    """What `make` gives; of a bad video the reason, or with "stop" the error."""
    try:
        if entry.fault:
            raise DataError(f"{entry.where}: {entry.fault}")
        return make(entry, opened(entry))
    except DataError as error:
        if opened.reading.on_bad_row == "stop":
            raise
        return Made(dropped={SILENT if entry.fault and not all(entry.said) else BAD: 1}, notes=[str(error)])


def _chosen(video: KeptVideo, output: Output) -> list[int]:
    """Places of the clips that are taken of a video, ascending."""
    places = list(range(len(video.clips)))
    if output.per_video:
        places.sort(key=lambda place: key_of(output.seed, "clips", video.clips[place].id))
    return sorted(places[: output.per_video or None])


def _pairs(entry: Entry, footage: Footage, video: KeptVideo, output: Output) -> Made:
    law, (shots, _) = output.pair_law(), footage.shots()
    taken, dropped = sift(footage.timeline, shots, law, entry.name, output.sieve(), output.size)
    samples = [_pair(entry, footage, video, one, output) for one in taken]
    short = [f"{entry.where}: {len(samples)} of {law.per_video} pairs"] if len(samples) < law.per_video else []
    return Made(samples, dropped, short)


def _pair(entry: Entry, footage: Footage, video: KeptVideo, one: Sifted, output: Output) -> Sample:
    source, target = one.pair.past[0], one.pair.future[0]
    times, stamps, clip = footage.times, footage.timeline.stamps, video.clips[one.shot]
    caption = entry.caption(output.seed, one.number, one.shot)
    kind = next(kind for kind, text, _ in clip.captions if text == caption)
    key, offset = f"{entry.name[:20]}-{source:07}-{target:07}", round(times[target] - times[source], 6)
    facts = {"pair_id": key, "clip_id": clip.id, "video": entry.name, "group": entry.group, "split": video.split}
    facts |= {"src_pts": stamps[source], "tgt_pts": stamps[target], "source_time": round(times[source], 6), "dt_s": offset}
    facts |= {"offset": offset, "spacing": offset, "flow": round(one.flow, 6), "caption_kind": kind}
    if output.kind == "triplets":
        names = ("original_image", "edited_image")
        texts = {"edit_prompt": caption, "original_prompt": caption, "edited_prompt": caption}
    else:
        names = ("source", "target")
        texts = {"text": caption} if output.form == "folder" else {"instruction": caption, "target_caption": caption}
    files = {}
    for name, pixels in zip(names, (one.source, one.target), strict=True):
        suffix, data = _image(pixels, output.quality)
        files[f"{name}.{suffix}"] = data
    return Sample(key, files, {**texts, **facts})


def _stills(entry: Entry, footage: Footage, video: KeptVideo, chosen: Sequence[int], output: Output) -> Made:
    shots, _ = footage.shots()
    middle = {place: (shots[place][0] + shots[place][1]) // 2 for place in chosen if shots[place][0] < shots[place][1]}

    def see(reader: Reader, index: int, frame: Any) -> np.ndarray:
        return reader.rgb(frame, output.size or None)

    found = visit(footage.timeline, middle.values(), see)
    samples = []
    for place, index in middle.items():
        if index in found:
            suffix, data = _image(found[index], output.quality)
            facts = {"text": _caption(entry, video, place, output), "group": entry.group, "video": entry.name, "split": video.split}
            samples.append(Sample(video.clips[place].id, {suffix: data}, {**facts, "time": round(footage.times[index], 6)}))
    return Made(samples, _lost(len(chosen) - len(samples)))


def _clip(entry: Entry, footage: Footage, video: KeptVideo, place: int, output: Output) -> Made:
    first, stop = footage.shots()[0][place]
    clip, times = video.clips[place], footage.times
    if first >= stop:
        return Made((), _lost(1))
    indices: Sequence[int] = range(first, stop)
    if output.rate:
        wanted = np.arange(times[first], clip.end_s - 1e-6, 1 / output.rate)
        part = np.asarray(times[first:stop])
        indices = (first + abs(part - wanted[:, None]).argmin(1)).tolist()
    if output.frames:
        files = _frames(footage, indices, output)
    else:
        try:
            files = {"mp4": excerpt(footage.timeline, list(dict.fromkeys(indices)), output.size, output.crf)}
        except DataError as error:
            return Made((), _lost(1), [f"{entry.where}: {error}"])
    if len(files) < (len(indices) if output.frames else 1):
        return Made((), _lost(1))
    captions = {"text": _caption(entry, video, place, output), **_captions(clip)}
    facts = {"group": entry.group, "video": entry.group, "content": entry.name, "split": video.split}
    facts |= {"start_s": clip.start_s, "end_s": clip.end_s}
    return Made([Sample(clip.id, files, {**captions, **facts})])


def _frames(footage: Footage, indices: Sequence[int], output: Output) -> dict[str, bytes]:
    """Files by number; fewer than asked where frames do not decode."""

    def see(reader: Reader, index: int, frame: Any) -> tuple[str, bytes]:
        return _image(reader.rgb(frame, output.size or None), output.quality)

    found = visit(footage.timeline, indices, see)
    return {f"/{number:06}.{found[at][0]}": found[at][1] for number, at in enumerate(indices) if at in found}


def _lost(count: int) -> dict[str, int]:
    return {"a frame cannot be decoded": count} if count else {}


def _caption(entry: Entry, video: KeptVideo, place: int, output: Output) -> str:
    return entry.caption(output.seed, key_of("clip", video.clips[place].id), place)


def _captions(clip: KeptClip) -> dict[str, Any]:
    kinds, texts, weights = zip(*clip.captions, strict=True)
    return {"kinds": list(kinds), "captions": list(texts), "weights": list(weights)}


def ranges_of(run: Path, output: Output) -> tuple[list[dict[str, Any]], list[str]]:
    """One row a kept clip: what the reader curated needs, and one caption drawn for others; and a line for each clip without."""
    reading = Curated(run, on_bad_row="skip")
    rows, silent = [], list[str]()
    for entry, video in _wanted(reading, output):
        silent += [f"{entry.where}: {entry.fault}"] if entry.fault else []
        for place in _chosen(video, output) if not entry.fault else ():
            clip = video.clips[place]
            where = {
                "uri": video.uri,
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "caption": _caption(entry, video, place, output),
            }
            ids = {"clip_id": clip.id, "video_id": video.content, "start_pts": clip.start_pts, "end_pts": clip.end_pts}
            file = {"path": video.path, "offset": video.offset, "size": video.size, "group": video.group}
            file["split"] = video.split
            rows.append({**where, **ids, **file, **_captions(clip)})
    return rows, [*silent, *reading.skipped]


def _image(pixels: np.ndarray, quality: int) -> tuple[str, bytes]:
    """(suffix, file): JPEG with full color resolution, or PNG where quality is 0."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if quality:
        image.save(out, "JPEG", quality=quality, subsampling=0)
        return "jpg", out.getvalue()
    image.save(out, "PNG")
    return "png", out.getvalue()

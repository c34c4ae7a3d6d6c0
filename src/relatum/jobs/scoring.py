"""`relatum match`: a model's answers to a benchmark, or its scores of any images and captions."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..atomic import write_text
from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.registry import benchmark
from ..core.shapes import Pixels
from ..data.benchmarks import Benchmark, Item  # the folder: so that all are registered
from ..data.refs import FileContent, StoredImage, brief, shown
from ..data.tables import Line, read_csv, read_json, read_jsonl, text_of
from ..engine.eliminate import Eliminated, best_image, best_text
from ..engine.match import ClipScorer, DiffusionScorer, Matching, Scorer
from ..metrics.folders import listed
from ..models.families.stable_diffusion import open_stable_diffusion
from .matching import ItemResult, item_key, match_items, recalls_of, repeated, run_key, table_of
from .opening import device
from .single import check_text, check_tries, model_path
from .stored import Lines, Stored

__all__ = [
    "Found",
    "Given",
    "find_fast",
    "given_captions",
    "given_images",
    "match_benchmark",
    "match_given",
    "open_scorer",
    "settings_of",
]

SHOWN = 20
CUT = "texts longer than the encoder reads, whose ends do not count"
COLUMNS = ("text", "caption")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """Images by name, and captions, to be scored with each other."""

    images: Mapping[str, StoredImage]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Found(Stored):
    """The winner of a `find_fast`, a text or an image's name, with what it took; see `Eliminated`."""

    id: str
    key: str
    winner: str
    evaluations: int
    full: int
    bound: float
    rounds: list[dict[str, int]]


def open_scorer(model: str, settings: Matching, kind: Literal["diffusion", "clip"], resolution: int | None) -> tuple[Scorer, int]:
    """The scorer and the edge in pixels at which it looks at images: by default what the model was trained at."""
    check_tries("match", 1, resolution)
    if kind == "clip":
        from ..pretrained import open_extractor

        extractor = open_extractor(model, str(device()))
        edge = re.match(r"(\d+) px", extractor.preprocessing)
        return ClipScorer(extractor), resolution or (int(edge[1]) if edge else 224)
    try:
        opened = open_stable_diffusion(model_path(model), 0).to(device())
    except RecipeError as error:
        raise RecipeError(f"match takes a text-to-image model of Stable Diffusion 1.x or 2.x: {error}") from error
    size = resolution or int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
    if size % opened.codec.factor:
        raise RecipeError(f"match: resolution is {size}, expected a multiple of {opened.codec.factor} for this autoencoder")
    return DiffusionScorer(opened, settings), size


def match_benchmark(
    model: str, scorer: Scorer, size: int, kind: str, settings: Mapping[str, Any], output: Path | None, limit: int | None, say: Say
) -> tuple[Path, list[ItemResult]]:
    """Every item of a registered benchmark, or the first `limit`; gives the results and the file that holds them.

    say: gets what is worth knowing, a line each, the table at the end. output: by default in runs/match, a name of its own for
    every model, benchmark and setting.
    """
    if limit is not None and limit < 1:
        raise RecipeError(f"match: limit is {limit}, expected 1 or more")
    if "kind" in settings:
        raise RecipeError(f"match: -o kind does not go with --benchmark {kind}, which says it already")
    _check_output(output, (".jsonl",), "with --benchmark ")
    asked: Benchmark = benchmark.build({**settings, "kind": kind}, "benchmark")
    items = asked.items()[: limit or None]
    _say_some(say, "left out", asked.skipped)
    _say_some(say, "equal candidates, which tie", repeated(items))
    _say_some(say, CUT, _cut(scorer, [text for item in items for text in item.texts]))
    mark = key_of(run_key(scorer, size), kind, sorted(settings.items(), key=str))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[-60:]
    store = output or Path("runs") / "match" / f"{name}-{kind}-{mark:016x}.jsonl"
    about = f"{kind} {sorted(settings.items(), key=str)}"
    results = match_items(scorer, items, size, asked.asks, asked.strict, store=store, about=about)
    for line in [*table_of(results), *([] if asked.strict else recalls_of(items, results, asked.asks))]:
        say(line)
    return store, results


def _cut(scorer: Scorer, texts: Sequence[str]) -> list[str]:
    every = list(dict.fromkeys(texts))
    return [every[i] for i in scorer.model.text.cut(every)] if isinstance(scorer, DiffusionScorer) else []


def _say_some(say: Say, what: str, lines: Sequence[str]) -> None:
    if lines:
        say(f"{what}: {len(lines)}")
    for line in lines[:SHOWN]:
        say(f"  {brief(line, 240)}")
    if len(lines) > SHOWN:
        say(f"  and {len(lines) - SHOWN} more")


def given_images(place: Path) -> dict[str, StoredImage]:
    """The images of a folder by stem, GIFs among them, or one image. DataError where there are none."""
    files = {place.stem: place} if place.is_file() else listed(place, "images", "images", gifs="images")
    return {stem: StoredImage(FileContent(path), shown(str(path))) for stem, path in files.items()}


def given_captions(file: Path | None, texts: Sequence[str]) -> tuple[str, ...]:
    """Captions of a file, then `texts`: .txt one a line; .json a list, or an object's values; .jsonl, .csv with text or caption.

    DataError for one that is empty or said twice, or for a file that holds none.
    """
    every = [*(_read_captions(file) if file is not None else []), *texts]
    if not every:
        raise DataError(f"{file}: holds no captions" if file is not None else "match: no captions; give --captions or --text")
    for text in every:
        check_text("match", text)
    places: dict[str, int] = {}
    for number, text in enumerate(every, 1):
        if (first := places.setdefault(text, number)) != number:
            raise DataError(
                f"match: captions {first} and {number} are the same ({brief(text)!r}), so they would tie; leave one out"
            )
    return tuple(every)


def _read_captions(file: Path) -> list[str]:
    kind = file.suffix.lower()
    if kind in (".jsonl", ".csv"):
        return [_caption(line) for line in (read_jsonl if kind == ".jsonl" else read_csv)(file)]
    if kind == ".json":
        values = read_json(file)
        if not isinstance(values, list | dict):
            raise DataError(f"{file}: expected captions in a list or as an object's values, found {type(values).__name__}")
        named = values.items() if isinstance(values, dict) else enumerate(values, 1)
        return [text_of(Line(0, f"{file}: caption {brief(str(name))}", {"text": value}), "text") for name, value in named]
    if kind != ".txt":
        raise DataError(f"{file}: captions are read from .txt, .json, .jsonl or .csv, not from {kind or 'a file without ending'}")
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start})") from error


def _caption(line: Line) -> str:
    if line.fault:
        raise DataError(f"{line.where}: {line.fault}")
    here = [column for column in COLUMNS if column in line.values]
    if not here:
        raise DataError(f"{line.where}: no {' or '.join(COLUMNS)}; found {brief(', '.join(line.values)) or 'nothing'}")
    return text_of(line, here[0])


def match_given(scorer: Scorer, size: int, given: Given, output: Path | None, say: Say) -> list[ItemResult]:
    """Scores of all images with all captions, and the best caption of each image.

    output: .jsonl, or .csv (image, text, score, and score minus the empty text's), made from a .jsonl beside it.
    """
    store = None if output is None else _beside(output)
    _say_some(say, CUT, _cut(scorer, given.texts))
    items = [Item(stem, (ref,), given.texts, ()) for stem, ref in given.images.items()]
    results = match_items(scorer, items, size, (), False, store=store, null=True)
    for result in results:
        errors = result.errors[0]
        best = min(range(len(errors)), key=errors.__getitem__)
        say(f"{shown(result.id)}: {-errors[best]:.5f} {shown(given.texts[best])}")
    if output is not None and output != store:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("image", "text", "score", "above_empty"))
        for result in results:
            for text, error in zip(given.texts, result.errors[0], strict=True):
                writer.writerow((result.id, text, -error, "" if result.null is None else result.null[0] - error))
        write_text(output, table.getvalue())
    return results


def _beside(output: Path) -> Path:
    _check_output(output, (".csv", ".jsonl"))
    return output if output.suffix.lower() == ".jsonl" else output.with_suffix(".jsonl")


def _check_output(output: Path | None, endings: Sequence[str], when: str = "") -> None:
    if output is not None and output.suffix.lower() not in endings:
        raise RecipeError(f"match: output is {output.name}, {when}expected a name in {' or '.join(endings)}")


def find_fast(
    scorer: Scorer, size: int, given: Given, what: Literal["text", "image"], delta: float, output: Path | None, say: Say
) -> list[Found]:
    """For each image its best text, or for each text its best image, by elimination, stored as it is found."""
    if not isinstance(scorer, DiffusionScorer):
        raise RecipeError("match: --fast is for diffusion models; the control scores all pairs at once anyway")
    _check_output(output, (".jsonl",), "with --fast ")
    import torch

    run = run_key(scorer, "fast", size, what, delta)
    names = [*given.images]
    refs = tuple(given.images.values())
    pixels = torch.stack([ref.pixels(size) for ref in refs]) if what == "image" else None
    items = (
        [Item(name, (ref,), given.texts, ()) for name, ref in given.images.items()]
        if what == "text"
        else [Item(text, refs, (text,), ()) for text in given.texts]
    )
    found = []
    with Lines(output, run, Found) as lines:
        for item in items:
            key = item_key(item, run)
            if (one := lines.find(item.id, key)) is None:
                best = _best(scorer, item, size, pixels, delta)
                winner = given.texts[best.winner] if what == "text" else names[best.winner]
                rounds = [{"levels": r.levels, "survivors": len(r.survivors)} for r in best.rounds]
                one = Found(item.id, key, winner, best.evaluations, best.full, best.bound, rounds)
                lines.add(one)
            say(f"{shown(item.id)}: {shown(one.winner)} ({one.evaluations} of {one.full} evaluations)")
            found.append(one)
        lines.finish(found)
    spent, full = sum(one.evaluations for one in found), sum(one.full for one in found)
    say(f"{spent} of {full} evaluations, {full / max(spent, 1):.1f} times fewer")
    say(f"each winner is the full ranking's but for a chance of {delta}")
    return found


def _best(scorer: DiffusionScorer, item: Item, size: int, pixels: Pixels | None, delta: float) -> Eliminated:
    try:
        if pixels is None:
            return best_text(scorer, item.images[0].pixels(size)[None], item.texts, delta)
        return best_image(scorer, pixels, item.texts[0], delta)
    except DataError as error:
        raise DataError(f"match: item {brief(item.id)}: {error}") from error


def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Settings from "key=value", the value in TOML, a bare word a string."""
    settings: dict[str, Any] = {}
    for text in overrides:
        key, found, value = text.partition("=")
        if not found or not key.strip():
            raise RecipeError(f"-o {text!r}: expected key=value")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = value.strip()
    return settings

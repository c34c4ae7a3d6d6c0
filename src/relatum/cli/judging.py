"""Verbs that measure: evaluate, match."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .reading import overrides, read

__all__ = ["add"]

SCORING = ("levels", "low", "high", "seed", "error", "batch_size")  # settings of `Matching`


def add(verbs: Any) -> None:
    _evaluate_parser(verbs)
    _match_parser(verbs)


def _evaluate_parser(verbs: Any) -> None:
    evaluate = verbs.add_parser(
        "evaluate", help="metrics of a recipe's trained model, or of folders of images or videos from any model"
    )
    evaluate.add_argument("recipe", nargs="?", help="recipe whose finished run is evaluated")
    overrides(evaluate)
    for side in ("generated", "target", "source", "masks"):
        evaluate.add_argument(f"--{side}", type=Path, help=f"folder of {side} images (or videos); files pair by stem")
    evaluate.add_argument("--captions", type=Path, help="JSON object or .jsonl (file_name, text): captions of the targets")
    evaluate.add_argument("--extractor", help="features: a bundled name (default tinyconv), folder, torchscript file or hub id")
    evaluate.add_argument("--clip", help="CLIP for captions: 'clip' (bundled), folder or hub id")
    evaluate.add_argument("--unpaired", action="store_true", help="target is another set, not one image for each")
    evaluate.add_argument("--size", type=int, help="edge in pixels to which all is cropped and resized (default: the first file's)")
    evaluate.add_argument("--frames", type=int, help="videos: at most so many frames of each, from its beginning")
    evaluate.add_argument(
        "--on-bad-file", choices=("stop", "skip"), help="videos: what one that cannot be used does (default stop)"
    )
    evaluate.add_argument("--output", type=Path, help="write the estimates as JSON, of videos with the values by frame")
    evaluate.set_defaults(run=_evaluate)


def _match_parser(verbs: Any) -> None:
    match = verbs.add_parser("match", help="score images against captions with a text-to-image model, or put a benchmark to it")
    match.add_argument("model", help="run folder, pipeline folder, bundled name (relatum:toy) or hub id; with --scorer clip a CLIP")
    match.add_argument("--benchmark", help="winoworld, winoground, aro, imagecode, gdbench, retrieval, ...")
    match.add_argument("-o", dest="overrides", action="append", default=[], metavar="key=value", help="a setting of the benchmark")
    match.add_argument("--limit", type=int, help="only the benchmark's first items")
    match.add_argument("--images", type=Path, help="a folder of images, or one, to score with all captions")
    match.add_argument("--captions", type=Path, help="captions: .txt one a line, .json list, .jsonl or .csv with text or caption")
    match.add_argument("--text", action="append", default=[], help="a caption; again: another")
    match.add_argument(
        "--fast",
        nargs="?",
        const="text",
        choices=("text", "image"),
        help="only the best text of each image, or the best image of each text",
    )
    match.add_argument("--delta", type=float, help="with --fast: chance of missing the full ranking's winner (default .01)")
    match.add_argument("--levels", type=int, help="noise levels a pair (default 16)")
    match.add_argument("--low", type=float, help="share of the schedule at which the levels begin (default 0)")
    match.add_argument("--high", type=float, help="and at which they end (default 1, pure noise)")
    match.add_argument("--seed", type=int, help="of levels and noise, which all pairs share")
    match.add_argument("--error", choices=("squared", "norm"), help="the mean square (default), or its root")
    match.add_argument("--batch-size", type=int, help="UNet evaluations at once (default 64)")
    match.add_argument("--resolution", type=int, help="edge in pixels (default: what the model was trained at)")
    match.add_argument("--scorer", choices=("diffusion", "clip"), default="diffusion", help="clip: the control, cosines of a CLIP")
    match.add_argument("--output", type=Path, help="results: .jsonl by item, or for --images .csv; the same command goes on")
    match.set_defaults(run=_match)


def _evaluate(args: argparse.Namespace) -> None:
    from ..jobs.judging import evaluate_folders, evaluate_run, lines_of

    _check_evaluate(args)
    if args.recipe is not None:
        evaluation, lacking = evaluate_run(read(args))
        print("".join(f"not measured: {reason}\n" for reason in lacking), end="")
    else:
        folders = {side: getattr(args, side) for side in ("target", "source", "masks")}
        evaluation = evaluate_folders(
            args.generated,
            folders,
            args.captions,
            extractor=args.extractor or "tinyconv",
            clip=args.clip or "",
            paired=not args.unpaired,
            size=args.size,
            frames=args.frames,
            on_bad_file=args.on_bad_file,
        )
    print("\n".join(lines_of(evaluation)))
    if args.output:
        from ..atomic import write_text

        write_text(args.output, json.dumps(evaluation.plain(), indent=2, allow_nan=False) + "\n")


def _match(args: argparse.Namespace) -> None:
    from ..engine.match import Matching
    from ..jobs import scoring

    _check_match(args)
    given = None
    if args.images:
        given = scoring.Given(scoring.given_images(args.images), scoring.given_captions(args.captions, args.text))
    settings = Matching(**{name: getattr(args, name) for name in SCORING if getattr(args, name) is not None})
    scorer, size = scoring.open_scorer(args.model, settings, args.scorer, args.resolution)
    if given is None:
        own = scoring.settings_of(args.overrides)
        print(scoring.match_benchmark(args.model, scorer, size, args.benchmark, own, args.output, args.limit, print)[0])
    elif args.fast:
        scoring.find_fast(scorer, size, given, args.fast, 0.01 if args.delta is None else args.delta, args.output, print)
    else:
        scoring.match_given(scorer, size, given, args.output, print)


def _check_match(args: argparse.Namespace) -> None:
    """RecipeError for words that do not go together: none is ignored in silence."""
    from ..core.errors import RecipeError

    if (args.benchmark is None) == (args.images is None):
        raise RecipeError("match takes --benchmark KIND, or --images FOLDER with --captions FILE or --text; see --help")
    lone = ("limit", "overrides") if args.images else ("captions", "text", "fast", "delta")
    refused = {
        "--images" if args.images else "--benchmark": lone,
        "all pairs; it is for --fast": ("delta",) if args.fast is None else (),
        f"--scorer {args.scorer}, which has no noise": (*SCORING, "fast") if args.scorer == "clip" else (),
    }
    for why, names in refused.items():
        for name in names:
            if getattr(args, name) not in (None, []):
                option = "-o" if name == "overrides" else f"--{name.replace('_', '-')}"
                raise RecipeError(f"match: {option} does not go with {why}")


def _check_evaluate(args: argparse.Namespace) -> None:
    """RecipeError for words that do not go together: none is ignored in silence."""
    from ..core.errors import RecipeError

    words = ("generated", "target", "source", "masks", "captions", "extractor", "clip", "unpaired", "size", "frames", "on_bad_file")
    given = [f"--{name.replace('_', '-')}" for name in words if getattr(args, name) not in (None, False)]
    if args.recipe is not None and given:
        raise RecipeError(f"evaluate with a recipe takes no {', '.join(given)}; the recipe's [evaluate] says what is measured")
    if args.recipe is None and args.generated is None:
        raise RecipeError("evaluate takes a recipe, or --generated FOLDER with what to compare it to; see --help")
    if args.recipe is None and args.overrides:
        raise RecipeError("evaluate of folders takes no -o, which overrides the settings of a recipe")
    if args.captions is not None and not args.clip:
        raise RecipeError("captions need --clip clip")
    if args.clip and args.captions is None:
        raise RecipeError("--clip needs --captions FILE, the texts to compare the images with")

"""The command line: one command, few verbs. `relatum VERB RECIPE.toml [-o section.key=value ...]`. Help answers without torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__

__all__ = ["main"]

EXIT_CODES = "exit codes: 0 done, 1 other errors, 2 recipe, 3 data, 4 diverged, 130 interrupted (the same command goes on)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; gives the exit code. User errors print one message, without a traceback unless RELATUM_TRACEBACK is set."""
    parsed = _parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from .core.errors import RelatumError

    try:
        parsed.run(parsed)
    except RelatumError as error:
        if os.environ.get("RELATUM_TRACEBACK"):
            raise
        print(f"relatum {parsed.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if os.environ.get("RELATUM_TRACEBACK"):
            raise
        print(f"relatum {parsed.verb}: {_system_words(error)}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"relatum {parsed.verb}: interrupted", file=sys.stderr)
        return 130
    return 0


def _system_words(error: OSError) -> str:
    """What the system said, and about which file."""
    if error.filename is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}; choose another file or folder, or change this one"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatum", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"relatum {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    demo = verbs.add_parser("demo", help="compare MSE with robust contrast on toy edits; ends with a report")
    demo.add_argument("--full", action="store_true", help="all three arms, six seeds, more steps")
    demo.add_argument("--output", type=Path, help="the report's folder (default runs/demo)")
    _overrides(demo)
    demo.set_defaults(run=_demo)
    verbs.add_parser("doctor", help="what is installed, devices, missing extras").set_defaults(run=_doctor)
    for name, run, words in (
        ("check", _check, "validate a recipe without running it and print it resolved"),
        ("train", _train, "train or resume"),
        ("compare", _compare, "train every arm for every seed and report"),
    ):
        verb = verbs.add_parser(name, help=words)
        _recipe(verb)
        verb.set_defaults(run=run)
    _cache_parser(verbs)
    _edit_parser(verbs)
    _animate_parser(verbs)
    _evaluate_parser(verbs)
    _negatives_parser(verbs)
    _match_parser(verbs)
    return parser


def _recipe(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipe", help="a .toml file, or the name of a shipped recipe")
    _overrides(verb)


def _overrides(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", dest="overrides", action="append", default=[], metavar="section.key=value", help="override a setting")


def _cache_parser(verbs: Any) -> None:
    cache = verbs.add_parser("cache", help="encode a recipe's rows; verify or clean the cache")
    _recipe(cache)
    cache.add_argument(
        "--action", choices=("fill", "verify", "gc"), default="fill", help="gc deletes what this recipe does not use"
    )
    cache.set_defaults(run=_cache)


def _edit_parser(verbs: Any) -> None:
    edit = verbs.add_parser("edit", help="edit a picture with a trained model")
    edit.add_argument("model", help="run folder, pipeline folder, bundled name (relatum:toy-edit) or hub id")
    edit.add_argument("--image", required=True, type=Path)
    edit.add_argument("--instruction", required=True)
    edit.add_argument("--output", type=Path, default=Path("edited.png"))
    edit.add_argument("--resolution", type=int, help="edge in pixels (default: what the model was trained at)")
    edit.add_argument("--seed", type=int, default=0)
    edit.add_argument("--count", type=int, default=1, help="variations, side by side")
    _sampler(edit, guidance=3.0, image_guidance=1.5)
    edit.set_defaults(run=_edit)


def _animate_parser(verbs: Any) -> None:
    animate = verbs.add_parser("animate", help="continue a picture as a film with a model trained on frames")
    animate.add_argument("model", help="run folder, or pipeline folder, of a model trained on task frames")
    animate.add_argument(
        "--image", required=True, type=Path, action="append", help="the first frame; again: frames before it, newest first"
    )
    animate.add_argument("--caption", required=True, action="append", help="what happens; again: the caption of the next step")
    animate.add_argument(
        "--output", type=Path, default=Path("film.mp4"), help="film.mp4, film.gif, or film.png for a strip of frames"
    )
    animate.add_argument("--steps", type=int, default=16, help="frames to make")
    animate.add_argument("--fps", type=float, help="frames a second as it plays (default: the pace of the scene)")
    animate.add_argument("--rate", type=float, help="frames a second of the scene, any number: interpolated in latent space")
    animate.add_argument("--offset", type=float, help="seconds from a frame to the next, for models that are told (default 0.2)")
    animate.add_argument(
        "--noise", choices=("per_step", "fixed"), default="per_step", help="fresh starting noise a step, or the same"
    )
    animate.add_argument("--given-noise", type=float, help="noise level of the given frames (default: as in training)")
    animate.add_argument(
        "--refine", type=float, default=0.0, help="re-noise each frame to this share of the schedule and refine it"
    )
    animate.add_argument("--count", type=int, default=1, help="samples, side by side")
    animate.add_argument("--resolution", type=int, help="edge in pixels (default: what the model was trained at)")
    animate.add_argument("--seed", type=int, default=0)
    _sampler(animate, guidance=1.0, image_guidance=1.0)
    animate.set_defaults(run=_animate)


def _sampler(verb: argparse.ArgumentParser, guidance: float, image_guidance: float) -> None:
    verb.add_argument("--num-inference-steps", type=int, default=20)
    verb.add_argument("--guidance-scale", type=float, default=guidance)
    verb.add_argument("--image-guidance-scale", type=float, default=image_guidance)
    verb.add_argument("--scheduler", default="DDIMScheduler")


def _evaluate_parser(verbs: Any) -> None:
    evaluate = verbs.add_parser(
        "evaluate", help="metrics of a recipe's trained model, or of folders of images or videos from any model"
    )
    evaluate.add_argument("recipe", nargs="?", help="recipe whose finished run is evaluated")
    _overrides(evaluate)
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


def _negatives_parser(verbs: Any) -> None:
    negatives = verbs.add_parser("negatives", help="write wrong captions of captions, by rules or a language model")
    negatives.add_argument("captions", type=Path, help=".txt, .jsonl, .csv or .parquet")
    negatives.add_argument("--output", type=Path, required=True, help="the .jsonl to write, one line a caption")
    negatives.add_argument("--column", default="", help="the column of captions (default: caption, text or edited_prompt)")
    negatives.add_argument("--rules", nargs="+", metavar="RULE", help="which rules (default: all; none with --model)")
    negatives.add_argument("--count", type=int, help="at most so many a caption, hardest first (default: all)")
    negatives.add_argument("--key", type=int, default=0, help="another draw of the rules")
    negatives.add_argument("--tagger", choices=("auto", "textblob", "rules"), default="auto", help="part-of-speech tags")
    negatives.add_argument("--model", help="language model that rewrites: folder or hub id")
    negatives.add_argument("--template", action="append", help="attribute, relation, object, confusing, or a file; again for more")
    negatives.add_argument("--temperature", type=float, default=0.0, help="of the language model; 0 draws nothing")
    negatives.add_argument("--report", action="store_true", help="say how well text alone tells them from captions")
    negatives.set_defaults(run=_negatives)


def _match_parser(verbs: Any) -> None:
    match = verbs.add_parser("match", help="score images against captions with a text-to-image model, or put a benchmark to it")
    match.add_argument("model", help="run folder, pipeline folder, bundled name (relatum:toy) or hub id; with --scorer clip a CLIP")
    match.add_argument("--benchmark", help="winoworld, winoground, aro, imagecode, gdbench, retrieval, ...")
    match.add_argument("-o", dest="overrides", action="append", default=[], metavar="key=value", help="a setting of the benchmark")
    match.add_argument("--limit", type=int, help="only the benchmark's first items")
    match.add_argument("--images", type=Path, help="a folder of images, or one, to score with all captions")
    match.add_argument("--captions", type=Path, help="captions: .txt one a line, .json list, .jsonl with text or caption")
    match.add_argument("--text", action="append", default=[], help="a caption; again: another")
    match.add_argument(
        "--fast",
        nargs="?",
        const="text",
        choices=("text", "image"),
        help="only the best text of each image, or the best image of each text",
    )
    match.add_argument("--delta", type=float, default=0.01, help="with --fast: chance of missing the full ranking's winner")
    match.add_argument("--levels", type=int, default=16, help="noise levels a pair (default 16)")
    match.add_argument("--seed", type=int, default=0, help="of levels and noise, which all pairs share")
    match.add_argument("--error", choices=("squared", "norm"), default="squared")
    match.add_argument("--batch-size", type=int, default=64, help="UNet evaluations at once")
    match.add_argument("--resolution", type=int, help="edge in pixels (default: what the model was trained at)")
    match.add_argument("--scorer", choices=("diffusion", "clip"), default="diffusion", help="clip: the control, cosines of a CLIP")
    match.add_argument("--output", type=Path, help="results: .jsonl by item, or for --images .csv; the same command goes on")
    match.set_defaults(run=_match)


def _demo(args: argparse.Namespace) -> None:
    from .compare.run import compare
    from .recipe import read_recipe

    recipe = read_recipe("full" if args.full else "demo", args.overrides)
    print(f"report: {compare(recipe, args.output)}")


def _doctor(args: argparse.Namespace) -> None:
    from .doctor import lines

    print("\n".join(lines()))


def _check(args: argparse.Namespace) -> None:
    import tomli_w

    from .jobs.opening import check_recipe

    recipe = _read(args)
    print(tomli_w.dumps(recipe.table()))
    print("\n".join(f"# {line}" for line in check_recipe(recipe)))
    if recipe.arms:
        from .compare.run import check_arms

        for arm, changes in check_arms(recipe)[1].items():
            print(f"# arm {arm}: {changes or 'the base recipe'}")


def _train(args: argparse.Namespace) -> None:
    from .jobs.training import run_folder, train_recipe

    recipe = _read(args)
    result = train_recipe(recipe)
    print(f"{result.steps} steps, {result.samples_seen} samples seen: {run_folder(recipe) / 'final'}")


def _compare(args: argparse.Namespace) -> None:
    from .compare.run import compare

    print(f"report: {compare(_read(args))}")


def _cache(args: argparse.Namespace) -> None:
    from .jobs.caching import clean, fill, verify_cache

    recipe = _read(args)
    print("\n".join({"fill": fill, "verify": verify_cache, "gc": clean}[args.action](recipe)))


def _edit(args: argparse.Namespace) -> None:
    from .engine.sample import Sampling
    from .jobs.single import edit_picture

    settings = Sampling(args.scheduler, args.num_inference_steps, args.guidance_scale, args.image_guidance_scale)
    edit_picture(args.model, args.image, args.instruction, args.output, settings, args.seed, args.count, args.resolution)
    print(args.output)


def _animate(args: argparse.Namespace) -> None:
    from .engine.rollout import Rolling
    from .engine.sample import Sampling
    from .jobs.animating import Projection, animate

    film = Projection(args.output, args.fps, args.rate, args.count, args.resolution)
    sampling = Sampling(args.scheduler, args.num_inference_steps, args.guidance_scale, args.image_guidance_scale)
    rolling = Rolling(args.steps, args.offset, args.noise, args.given_noise, args.refine)
    count = animate(args.model, args.image, args.caption, film, sampling, rolling, args.seed)
    print(f"{args.output} ({count} frames)")


def _evaluate(args: argparse.Namespace) -> None:
    from .jobs.judging import evaluate_folders, evaluate_run, lines_of

    _check_evaluate(args)
    if args.recipe is not None:
        evaluation, lacking = evaluate_run(_read(args))
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
        from .atomic import write_text

        write_text(args.output, json.dumps(evaluation.plain(), indent=2, allow_nan=False) + "\n")


def _negatives(args: argparse.Namespace) -> None:
    from .core.errors import RecipeError
    from .data.negatives.rows import NegativeSettings
    from .data.negatives.rules import RULES
    from .jobs.negatives import NONE, lines_of, make_negatives, read_captions
    from .jobs.opening import device
    from .models.rewriter import Decoding, find_template, open_rewriter

    if args.model is None and (args.template or args.temperature):
        raise RecipeError("negatives: --template and --temperature are for a language model; name one with --model")
    templates = [find_template(name) for name in args.template or (["confusing"] if args.model else [])]
    count = NONE if args.count is None else args.count
    settings = NegativeSettings(tuple(args.rules or RULES), count, args.key, tagger=args.tagger)
    captions = read_captions(args.captions, args.column)
    writer = open_rewriter(args.model, Decoding(temperature=args.temperature, seed=args.key), device()) if args.model else None
    ruled = args.rules is not None or writer is None
    print("\n".join(lines_of(make_negatives(captions, args.output, settings, writer, templates, args.report, ruled))))
    print(args.output)


def _match(args: argparse.Namespace) -> None:
    from .core.errors import RecipeError
    from .engine.match import Matching
    from .jobs import scoring

    if (args.benchmark is None) == (args.images is None):
        raise RecipeError("match takes --benchmark KIND, or --images FOLDER with --captions FILE or --text; see --help")
    sides = {"--limit": args.limit, "-o": args.overrides} if args.images else {"--captions": args.captions, "--text": args.text}
    if not args.images:
        sides["--fast"] = args.fast
    for option, value in sides.items():
        if value not in (None, []):
            raise RecipeError(f"match: {option} does not go with {'--images' if args.images else '--benchmark'}")
    given = None
    if args.images:
        given = scoring.Given(scoring.given_images(args.images), scoring.given_captions(args.captions, args.text))
    settings = Matching(args.levels, batch_size=args.batch_size, seed=args.seed, error=args.error)
    scorer, size = scoring.open_scorer(args.model, settings, args.scorer, args.resolution)
    if given is None:
        own = scoring.settings_of(args.overrides)
        print(scoring.match_benchmark(args.model, scorer, size, args.benchmark, own, args.output, args.limit, print)[0])
    elif args.fast:
        scoring.find_fast(scorer, size, given, args.fast, args.delta, args.output, print)
    else:
        scoring.match_given(scorer, size, given, args.output, print)


def _check_evaluate(args: argparse.Namespace) -> None:
    """RecipeError for words that do not go together: none is ignored in silence."""
    from .core.errors import RecipeError

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


def _read(args: argparse.Namespace) -> Any:
    from .recipe import read_recipe

    return read_recipe(args.recipe, args.overrides)


if __name__ == "__main__":
    sys.exit(main())

"""Verbs that make something with a model: generate, edit, animate, negatives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add"]


def add(verbs: Any) -> None:
    for verb in (_generate_parser, _edit_parser, _animate_parser, _negatives_parser):
        verb(verbs)


def _generate_parser(verbs: Any) -> None:
    generate = verbs.add_parser("generate", help="make pictures, or with --video films, from captions")
    generate.add_argument("model", help="run folder, pipeline folder, bundled name (relatum:toy) or hub id")
    generate.add_argument("--caption", action="append", default=[], help="what is shown; again for more")
    generate.add_argument("--captions", type=Path, help="a file of captions: .txt, .jsonl, .csv or .parquet")
    generate.add_argument("--output", type=Path, default=Path("generated"), help="folder: one file a caption and seed, index.jsonl")
    generate.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the noise; a seed's is the same for all captions")
    generate.add_argument("--video", action="store_true", help="films, from a model with motion modules")
    generate.add_argument("--frames", type=int, default=16, help="of a film")
    generate.add_argument("--fps", type=float, default=8.0, help="frames a second as a film plays")
    generate.add_argument("--format", choices=("mp4", "gif", "png"), default="mp4", help="of films; png is a strip of frames")
    generate.add_argument("--image", type=Path, help="the first frame, for models that continue one")
    generate.add_argument("--resolution", type=int, help="edge in pixels (default: what the model was trained at)")
    generate.add_argument("--batch-size", type=int, default=4, help="samples at once; what is made does not depend on it")
    _sampler(generate, guidance=7.5, image_guidance=1.5)
    generate.set_defaults(run=_generate)


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
    animate = verbs.add_parser("animate", help="continue a picture as a film with a model trained on frames, or on animation")
    animate.add_argument("model", help="run folder, or pipeline folder, of a model trained on task frames or animation")
    animate.add_argument(
        "--image", required=True, type=Path, action="append", help="the first frame; again: frames before it, newest first"
    )
    animate.add_argument(
        "--caption", action="append", default=[], help="what happens; again: the next step's; none where no text is read"
    )
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


def _negatives_parser(verbs: Any) -> None:
    negatives = verbs.add_parser("negatives", help="write wrong captions of captions, by rules or a language model")
    negatives.add_argument("captions", type=Path, help=".txt, .jsonl, .csv or .parquet")
    negatives.add_argument("--output", type=Path, required=True, help="the .jsonl to write, one line a caption")
    negatives.add_argument("--column", default="", help="the column of captions (default: caption, text or edited_prompt)")
    negatives.add_argument("--rules", nargs="+", metavar="RULE", help="which rules (default: all; none with --model)")
    negatives.add_argument("--count", type=int, help="at most so many a caption, hardest first (default: all)")
    negatives.add_argument("--key", type=int, default=0, help="another draw of the rules")
    negatives.add_argument("--tagger", choices=("auto", "textblob", "rules"), help="part-of-speech tags (default: auto)")
    negatives.add_argument("--model", help="language model that rewrites: folder or hub id")
    negatives.add_argument("--template", action="append", help="attribute, relation, object, confusing, or a file; again for more")
    negatives.add_argument("--temperature", type=float, default=0.0, help="of the language model; 0 draws nothing")
    negatives.add_argument("--report", action="store_true", help="say how well text alone tells them from captions")
    negatives.set_defaults(run=_negatives)


def _generate(args: argparse.Namespace) -> None:
    from ..engine.sample import Sampling
    from ..jobs.generating import Order, captions_of, generate_all

    captions, frames = captions_of(args.caption, args.captions), args.frames if args.video else 0
    order = Order(captions, tuple(args.seeds), frames, args.fps, args.format, args.resolution, args.image, batch=args.batch_size)
    sampling = Sampling(args.scheduler, args.num_inference_steps, args.guidance_scale, args.image_guidance_scale)
    count = generate_all(args.model, order, sampling, args.output, print)
    print(f"{args.output} ({count} files)")


def _edit(args: argparse.Namespace) -> None:
    from ..engine.sample import Sampling
    from ..jobs.single import edit_picture

    settings = Sampling(args.scheduler, args.num_inference_steps, args.guidance_scale, args.image_guidance_scale)
    edit_picture(args.model, args.image, args.instruction, args.output, settings, args.seed, args.count, args.resolution)
    print(args.output)


def _animate(args: argparse.Namespace) -> None:
    from ..engine.rollout import Rolling
    from ..engine.sample import Sampling
    from ..jobs.animating import Projection, animate

    film = Projection(args.output, args.fps, args.rate, args.count, args.resolution)
    sampling = Sampling(args.scheduler, args.num_inference_steps, args.guidance_scale, args.image_guidance_scale)
    rolling = Rolling(args.steps, args.offset, args.noise, args.given_noise, args.refine)
    count = animate(args.model, args.image, args.caption, film, sampling, rolling, args.seed)
    print(f"{args.output} ({count} frames)")


def _negatives(args: argparse.Namespace) -> None:
    from ..core.errors import RecipeError
    from ..data.negatives.captions import read_captions
    from ..data.negatives.rows import NegativeSettings
    from ..data.negatives.rules import RULES
    from ..jobs.negatives import NONE, check_output, lines_of, make_negatives
    from ..jobs.opening import device
    from ..pretrained.rewriter import Decoding, find_template, open_rewriter

    if args.model is None and (args.template or args.temperature):
        raise RecipeError("negatives: --template and --temperature are for a language model; name one with --model")
    if args.model is not None and not args.model.strip():
        raise RecipeError("negatives: --model is empty; name a folder or a hub id, or leave it out")
    if args.model is not None and args.tagger and args.rules is None:
        raise RecipeError("negatives: --tagger is for rules, of which none are used with --model; name them with --rules")
    check_output(args.captions, args.output)
    templates = [find_template(name) for name in dict.fromkeys(args.template or (["confusing"] if args.model else []))]
    count = NONE if args.count is None else args.count
    settings = NegativeSettings(tuple(dict.fromkeys(args.rules or RULES)), count, args.key, tagger=args.tagger or "auto")
    decoding = Decoding(temperature=args.temperature, seed=args.key)
    captions = read_captions(args.captions, args.column)
    writer = open_rewriter(args.model, decoding, device()) if args.model else None
    ruled = args.rules is not None or writer is None
    print("\n".join(lines_of(make_negatives(captions, args.output, settings, writer, templates, args.report, ruled))))
    print(args.output)

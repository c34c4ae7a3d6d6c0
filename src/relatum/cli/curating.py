"""The verb curate: raw footage to training sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .reading import takes_recipe

__all__ = ["add"]


def add(verbs: Any) -> None:
    curate = verbs.add_parser("curate", help="raw footage to training sets: split, measure, keep or drop with a reason")
    takes_recipe(curate)
    does = curate.add_mutually_exclusive_group()
    does.add_argument("--retune", action="store_true", help="decide anew from what was measured, and say what each threshold keeps")
    does.add_argument("--status", action="store_true", help="count what is there, by status and reason")
    does.add_argument("--explain", metavar="CLIP", help="all that is known of one clip, and why it was kept or dropped")
    does.add_argument(
        "--shard", metavar="I/N", help="measure the I-th of N parts only, from 0; the command without it does the rest"
    )
    curate.add_argument("--retry", metavar="STATUS,...", default="", help="try again what ended as error, crash or timeout")
    curate.set_defaults(run=_curate)


def _curate(args: argparse.Namespace) -> None:
    from ..core.errors import RecipeError
    from ..curation.recipe import read_curation
    from ..jobs import curating

    recipe = read_curation(args.recipe, args.overrides)
    if args.retry and (args.retune or args.status or args.explain is not None):
        raise RecipeError("--retry tries videos again; leave out --retune, --status and --explain, or give them afterwards")
    for asked, answer in ((args.retune, curating.retune), (args.status, curating.status)):
        if asked:
            print("\n".join(answer(recipe)))
            return
    if args.explain is not None:
        print("\n".join(curating.explain(recipe, args.explain)))
        return
    retry = tuple(word.strip() for word in args.retry.split(",") if word.strip())
    report: Path = curating.curate(recipe, retry, curating.shard_of(args.shard), lambda line: print(line, flush=True))
    print(f"report: {report}")

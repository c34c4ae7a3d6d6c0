"""Verbs that take a recipe: demo, doctor, check, train, compare, cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .reading import overrides, read, takes_recipe

__all__ = ["add"]


def add(verbs: Any) -> None:
    demo = verbs.add_parser("demo", help="compare MSE with robust contrast on toy edits; ends with a report")
    demo.add_argument("--full", action="store_true", help="all three arms, six seeds, more steps")
    demo.add_argument("--output", type=Path, help="the report's folder (default runs/demo)")
    overrides(demo)
    demo.set_defaults(run=_demo)
    verbs.add_parser("doctor", help="what is installed, devices, missing extras").set_defaults(run=_doctor)
    for name, run, words in (
        ("check", _check, "validate a recipe without running it and print it resolved"),
        ("train", _train, "train or resume"),
        ("compare", _compare, "train every arm for every seed and report"),
    ):
        verb = verbs.add_parser(name, help=words)
        takes_recipe(verb)
        verb.set_defaults(run=run)
    _cache_parser(verbs)


def _cache_parser(verbs: Any) -> None:
    cache = verbs.add_parser("cache", help="encode a recipe's rows; verify or clean the cache")
    takes_recipe(cache)
    cache.add_argument(
        "--action", choices=("fill", "verify", "gc"), default="fill", help="gc deletes what this recipe does not use"
    )
    cache.set_defaults(run=_cache)


def _demo(args: argparse.Namespace) -> None:
    from ..compare.run import compare
    from ..recipe import read_recipe

    recipe = read_recipe("full" if args.full else "demo", args.overrides)
    print(f"report: {compare(recipe, args.output)}")


def _doctor(args: argparse.Namespace) -> None:
    from ..doctor import lines

    print("\n".join(lines()))


def _check(args: argparse.Namespace) -> None:
    import tomli_w

    from ..jobs.checking import check_recipe

    recipe = read(args)
    print(tomli_w.dumps(recipe.table()))
    print("\n".join(f"# {line}" for line in check_recipe(recipe)))
    if recipe.arms:
        from ..compare.run import check_arms

        for arm, changes in check_arms(recipe)[1].items():
            print(f"# arm {arm}: {changes or 'the base recipe'}")


def _train(args: argparse.Namespace) -> None:
    from ..jobs.stages import train_before
    from ..jobs.training import run_folder, train_recipe

    recipe = read(args)
    train_before(recipe, print)
    result = train_recipe(recipe)
    print(f"{result.steps} steps, {result.samples_seen} samples seen: {run_folder(recipe) / 'final'}")


def _compare(args: argparse.Namespace) -> None:
    from ..compare.run import compare
    from ..jobs.stages import train_before

    recipe = read(args)
    train_before(recipe, print)
    print(f"report: {compare(recipe)}")


def _cache(args: argparse.Namespace) -> None:
    from ..jobs.caching import clean, fill, verify_cache

    recipe = read(args)
    print("\n".join({"fill": fill, "verify": verify_cache, "gc": clean}[args.action](recipe)))

"""Tiny recipes as files, and commands in processes of their own, for the tests that go through the command line."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch

from relatum.core.toml import merged

__all__ = ["HEAVY", "command", "finished_weights", "in_processes", "records", "tiny_recipe", "weights"]

# Loaded once by the process that every child is forked from.
HEAVY = ["relatum.jobs.training", "relatum.compare.run", "diffusers", "transformers", "accelerate", "peft", "support.runs"]


def tiny_recipe(folder: Path, base: Path, cache: Path, name: str = "tiny", /, **sections: Any) -> Path:
    """A recipe of four steps on twelve toy edits, written to `folder`; `sections` are laid over it."""
    table: dict[str, Any] = {
        "name": name,
        "output_dir": str(folder / name),
        "cache_dir": str(cache),
        "data": {
            "train": {"kind": "toy", "split": "train", "count": 12},
            "test": {"kind": "toy", "split": "test", "count": 6},
            "resolution": 16,
        },
        "model": {"kind": "stable_diffusion", "pretrained_model_name_or_path": str(base)},
        "task": {"kind": "edit"},
        "train": {
            "max_train_steps": 4,
            "train_batch_size": 4,
            "learning_rate": 1e-3,
            "checkpointing_steps": 2,
            "validation_steps": 4,
            "logging_steps": 1,
            "sample_rows": 0,
        },
        "sample": {"num_inference_steps": 2, "guidance_scale": 2.0, "image_guidance_scale": 1.2},
        "evaluate": {"rows": 6, "metrics": ["psnr", "edit_accuracy", "preservation"], "features": "randconv"},
        "compare": {"seeds": [0], "resamples": 50, "grid_rows": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    for key, section in sections.items():
        if key == "objectives":
            table[key] = dict(section)
        else:
            table = merged(table, {key: section})
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The UNet's weights under a pipeline's or a checkpoint's folder."""
    from safetensors.torch import load_file

    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def finished_weights(recipe: Path) -> dict[str, torch.Tensor]:
    """The UNet that the recipe's finished run left."""
    return weights(recipe.with_suffix("") / "final")


def records(recipe: Path) -> list[dict[str, Any]]:
    """The run's journal."""
    from relatum.engine.journal import read_journal

    return read_journal(recipe.with_suffix(""))


def command(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """In a child: `relatum ARGUMENTS` with its words in `log`; ends the process with the exit code."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        from relatum.cli import main

        code = main(list(arguments))
    sys.exit(code)


def in_processes(arguments: Sequence[str], folder: Path, count: int = 1, **environment: str) -> tuple[list[int], list[str]]:
    """`relatum ARGUMENTS` in `count` processes of one run; their exit codes (negative: the signal) and what they said."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"log-{rank}.txt" for rank in range(count)]
    processes = [
        context.Process(target=command, args=(arguments, log, {**_ranks(rank, count, port), **environment}))
        for port in [_free_port()]
        for rank, log in enumerate(logs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
    said = [log.read_text() if log.exists() else "" for log in logs]
    assert None not in codes, f"a process did not end: {said}"
    return [code for code in codes if code is not None], said


def _ranks(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets: accelerate then speaks gloo over the loopback."""
    if count == 1:
        return {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

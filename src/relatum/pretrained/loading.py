"""Loading networks of transformers: local files before the network, safetensors only, no code of the model's own, clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from ..core.errors import DataError

__all__ = ["check_words", "load_pretrained", "quiet"]


def load_pretrained(name: str, noun: str, reader: Any, network: Any, **reading: Any) -> tuple[Any, Any]:
    """What two Auto classes of transformers make of a folder or hub id ("owner/model", or "owner/model@revision"): the tokenizer or
    processor, and the network with its weights as they are stored.

    noun: what it should be, for messages. reading: further arguments of the reader. DataError where it is not there, of another
    kind, has no safetensors, lacks weights or is damaged.
    """
    path, revision = _place(name, noun)
    with suppress(OSError):
        return _load(path, noun, reader, network, {"revision": revision, "local_files_only": True}, reading)
    try:
        return _load(path, noun, reader, network, {"revision": revision, "local_files_only": False}, reading)
    except OSError as error:
        raise DataError(
            f"{noun} {name!r}: neither a folder with safetensors nor a reachable hub id of one ({_first(error)})"
        ) from error


def check_words(name: str, tokenizer: Any) -> None:
    """DataError for a tokenizer that knows special tokens alone, as transformers makes one up where there are no files of one."""
    if not tokenizer("a cat")["input_ids"] or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise DataError(f"{name}: its tokenizer knows no words; tokenizer.json, or the files that it is made of, are missing")


def _place(name: str, noun: str) -> tuple[str, str | None]:
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path), None
    place, _, revision = name.partition("@")
    if revision and Path(place).expanduser().is_dir():
        raise DataError(f"{name}: {place} is a folder, which has no revisions; write it without @{revision}")
    if name.startswith((".", "/", "~")):
        raise DataError(f"{name}: no such folder; give a {noun} in transformers' format, or its hub id")
    return place, revision or None


def _load(path: str, noun: str, reader: Any, network: Any, where: dict[str, Any], reading: dict[str, Any]) -> tuple[Any, Any]:
    from safetensors import SafetensorError

    try:
        with quiet() if where["local_files_only"] else nullcontext():
            read = reader.from_pretrained(path, trust_remote_code=False, **where, **reading)
            model, info = network.from_pretrained(
                path, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **where
            )
    except (ValueError, KeyError) as error:  # another kind of model, or one with code of its own
        raise DataError(f"{path}: no {noun} of transformers ({_first(error)})") from error
    except ImportError as error:
        raise DataError(
            f"{path}: this {noun} needs a package that is not installed, for the most part torchvision, which has to fit the "
            f"installed torch ({_first(error)}); install it, or take another model"
        ) from error
    except SafetensorError as error:
        raise DataError(f"{path}: its safetensors are damaged or cut ({error}); get them again") from error
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit its config.json ({_first(error)})") from error
    weights = dict(model.named_parameters())
    if lacking := sorted(set(info["missing_keys"]) & set(weights)):
        raise DataError(f"{path}: its safetensors lack {len(lacking)} weights ({lacking[0]}, ...), so this is not the whole {noun}")
    if broken := next((key for key, weight in weights.items() if not weight.isfinite().all()), ""):
        raise DataError(f"{path}: its weights are damaged: {broken} has NaN or infinity")
    return read, model


def _first(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars that transformers and the hub show for each component."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

"""The command line: one command, few verbs. `relatum VERB RECIPE.toml [-o section.key=value ...]`. Help answers without torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import curating, judging, making, recipes

__all__ = ["main"]

EXIT_CODES = "exit codes: 0 done, 1 other errors, 2 recipe, 3 data, 4 diverged, 130 interrupted (the same command goes on)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; gives the exit code. User errors print one message, without a traceback unless RELATUM_TRACEBACK is set."""
    parsed = _parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from ..core.errors import RelatumError

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
    for part in (recipes, making, judging, curating):
        part.add(verbs)
    return parser

"""What a user can do wrong, and how a run can end. Messages say what was found, what was expected, where, and what to do."""

__all__ = ["DataError", "Diverged", "Interrupted", "MissingExtra", "RecipeError", "RelatumError", "ShapeError"]


class RelatumError(Exception):
    """Base of every error that is addressed to the user. `exit_code` is what the command line returns."""

    exit_code = 1


class RecipeError(RelatumError, ValueError):
    """A recipe asks for something that does not exist or cannot work. Names the place in the recipe."""

    exit_code = 2


class DataError(RelatumError, ValueError):
    """A file or a row cannot be used. Names file and row."""

    exit_code = 3


class ShapeError(DataError):
    """A tensor or image has another size than its neighbours need."""


class MissingExtra(RelatumError, ImportError):
    """An optional dependency is not installed. Prints its pip command."""

    exit_code = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed; run: pip install 'relatum[{extra}]'")


class Diverged(RelatumError, FloatingPointError):
    """A loss or gradient is not finite, or a spike. No update was made. Names term, samples and noise levels.

    update: the one that was not made, None where the weights themselves are the matter.
    """

    exit_code = 4

    def __init__(self, message: str, update: int | None = None) -> None:
        super().__init__(message)
        self.update = update


class Interrupted(RelatumError):
    """SIGINT or SIGTERM arrived; a checkpoint was written. The same command goes on from it."""

    exit_code = 130

"""What losses on frame differences do to gradient descent: the eigenvalues of their quadratic forms over the frames of a clip."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import ShapeError

__all__ = ["Form", "condition_number", "eigenvalues", "quadratic_form"]

Form = Literal["denoise", "difference", "frame_difference", "anchored_difference", "temporal_residual"]
Square = Float[Tensor, "t t"]


def quadratic_form(form: Form, frames: int, *, strength: float = 0.5, start: int = 0, beta: float = 1.0) -> Square:
    """A with loss = r' A r / frames, for one position's residuals r over the frames: the identity for "denoise". float64.

    "difference": frame_difference in its faithful form; "frame_difference": in its robust one. start: the anchor frame.

    >>> quadratic_form("anchored_difference", 3).tolist()
    [[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]
    """
    if frames < 2 or not 0 <= start < frames:
        raise ShapeError(f"{frames} frames and anchor {start}: expected 2 frames or more, and an anchor among them")
    one = torch.eye(frames, dtype=torch.float64)
    steps = one[1:] - one[:-1]
    path, anchor = steps.T @ steps, one[start]
    mean_path = path * frames / (frames - 1)
    match form:
        case "denoise":
            return one
        case "difference":
            return mean_path
        case "frame_difference":
            return (one + strength / 2 * mean_path) / (1 + strength)
        case "anchored_difference":
            return path + torch.outer(anchor, anchor)
        case "temporal_residual":
            mixed = math.sqrt(beta**2 + 1) * one - beta * anchor
            return mixed.T @ mixed


def eigenvalues(matrix: Square) -> Float[Tensor, "t"]:
    """In rising order. Gradient descent on MSE diverges above a learning rate; on this form above that one over the largest."""
    return torch.linalg.eigvalsh(matrix)


def condition_number(matrix: Square) -> float:
    """The largest over the smallest eigenvalue; infinite for forms that some residual costs nothing."""
    values = eigenvalues(matrix)
    return float("inf") if values[0] < 1e-12 * values[-1] else float(values[-1] / values[0])

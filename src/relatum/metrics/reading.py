"""Which numbers may be set side by side."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import DataError
from .base import Estimate

__all__ = ["Reading", "comparable"]


@dataclass(frozen=True)
class Reading:
    """An estimate with what is needed to know whether it compares with another."""

    metric: str
    estimate: Estimate
    fingerprint: str = ""
    biased: bool = False


def comparable(a: Reading, b: Reading) -> None:
    """Raises DataError where two numbers must not be set side by side: other metric, extractor, or n where the metric is biased."""
    for what, left, right in (("metric", a.metric, b.metric), ("extractor fingerprint", a.fingerprint, b.fingerprint)):
        if left != right:
            raise DataError(f"{a.metric}: numbers of different {what} do not compare: {left!r} and {right!r}")
    if (a.biased or b.biased) and a.estimate.n != b.estimate.n:
        raise DataError(
            f"{a.metric} is biased by an amount that depends on n, so n = {a.estimate.n} and n = {b.estimate.n} do not compare; "
            "evaluate both on equally many samples, or use an unbiased metric such as kd"
        )

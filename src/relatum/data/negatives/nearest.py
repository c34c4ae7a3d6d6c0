"""For each row the most alike other one that its caption does not describe: by the words of captions, or by features of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from .sentence import normal

__all__ = ["nearest_captions", "nearest_images"]

CELLS = 10_000_000  # similarities held at once (40 MB dense)
COMMON = 0.05  # words in more captions than this share say little, where there are many captions
MANY = 1000
DIGITS = 6  # of a similarity; further ones are rounding


def nearest_captions(captions: Sequence[str], groups: Sequence[str]) -> list[int | None]:
    """Index of the caption most alike by TF-IDF cosine, among those of another group that are not the same after normalization.

    A word of h of n captions weighs 1 + log((1 + n) / (1 + h)); where there are many captions the common ones count only for those
    that share no other. None where no other caption shares a word. Ties go to the first after it, and round: then not all get the
    same one. Memory: O(words), not O(n^2).
    """
    import numpy as np
    from scipy import sparse

    plain = [normal(caption) for caption in captions]
    words: dict[str, int] = {}
    rows, columns = [], []
    for i, caption in enumerate(plain):
        for word in dict.fromkeys(caption):
            rows.append(i)
            columns.append(words.setdefault(word, len(words)))
    n = len(captions)
    table: Any = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(n, max(1, len(words))))
    held = np.asarray(table.sum(0)).ravel()
    weight = 1 + np.log((1 + n) / (1 + held)).astype(np.float32)

    def among(rows: Sequence[int], weight: Any) -> list[int | None]:
        weighed = table @ sparse.diags(weight)
        length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
        weighed = sparse.diags(1 / np.maximum(length, 1e-12)) @ weighed
        turned = weighed.T.tocsr()
        return _nearest(rows, n, lambda some: (weighed[some] @ turned).toarray(), [plain, list(groups)], least=1e-6)

    if n <= MANY:
        return among(range(n), weight)
    found = among(range(n), np.where(held > COMMON * n, 0, weight))
    rest = [i for i, other in enumerate(found) if other is None]
    for i, other in zip(rest, among(rest, weight), strict=True):
        found[i] = other
    return found


def nearest_images(features: Any, captions: Sequence[str], groups: Sequence[str], same: float = 0.9999) -> list[int | None]:
    """Index of the image most alike by cosine of features (n d), of another group and another caption (normalized), and less alike
    than `same`, from where two images are one. None where there is none."""
    import numpy as np

    unit = np.asarray(features, np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)

    def alike(some: Sequence[int]) -> Any:
        block = unit[list(some)] @ unit.T
        block[block >= same] = -np.inf
        return block

    n = len(unit)
    return _nearest(range(n), n, alike, [[normal(caption) for caption in captions], list(groups)], least=-1.0)


def _nearest(
    rows: Sequence[int], n: int, alike: Callable[[Sequence[int]], Any], kinds: Sequence[Sequence[Any]], least: float
) -> list[int | None]:
    """The best of n columns for each of `rows`, none that shares a kind (itself, its caption, its group) with it, nor any below
    `least`."""
    import numpy as np

    members: list[dict[Any, list[int]]] = []
    for kind in kinds:
        places: dict[Any, list[int]] = defaultdict(list)
        for i, value in enumerate(kind):
            places[value].append(i)
        members.append(places)
    found: list[int | None] = []
    chunk = max(1, CELLS // max(1, n))
    for begin in range(0, len(rows), chunk):
        some = rows[begin : begin + chunk]
        for row, scores in zip(some, alike(some), strict=True):
            scores[row] = -np.inf
            for kind, places in zip(kinds, members, strict=True):
                scores[places[kind[row]]] = -np.inf
            best = (int(np.roll(scores.round(DIGITS), -row).argmax()) + row) % n
            found.append(best if scores[best] >= least else None)
    return found

"""Lines of text in a picture, without a model: strokes, joined to lines, and what these look like.

Strokes are what a 7 x 7 opening takes away (a top-hat, of bright and of dark strokes), on three sizes of the picture and above two
contrasts. Strokes side by side join to candidates, wider than high. Eleven numbers of a candidate give, by a logistic model, how
likely it is text: length, contrast and how even it is, strokes across, edges of both directions, gaps of the other polarity,
sharp upper and lower ends, and emptiness above and below. Foliage, grass, noise or a wall fail several of these; a fence or a row
of windows, which may not, repeat themselves, as writing does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["FEATURES", "candidates", "find_lines", "share"]

STROKE = 7  # pixels: strokes are narrower
CONTRASTS = (28, 64)  # levels of 255, least of a stroke
LEVELS = 3  # sizes of the picture, each half the one before
TALLEST = 0.25  # of the picture's shorter edge: no line is higher
HIGHEST = 48  # pixels, of a line on one size
MOST = 300  # candidates of one size
LEAST = 0.05  # probability of a line that is kept
REPEATS = 0.55  # a candidate more alike to itself a step on, two, and three is a pattern (of drawn lines one in a hundred)
COVERED = 0.35  # of a candidate, by likelier ones: then it adds nothing
CELLS = 180  # of the shorter edge of the grid on which areas are counted

FEATURES = ("length", "fill", "contrast", "spread", "color", "edges", "around", "gaps", "across", "ends", "height")
# Fitted by benchmarks/text_fit.py: drawn captions against drawn textures and photographs without text, half of them dimmed.
WEIGHTS = (2.81, 4.94, 2.75, 6.6, -11.7, -1.75, -1.51, 9.35, -2.88, 2.41, 2.17)
BIAS = -10.92


def find_lines(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(boxes, weights) of an (h w) uint8 picture, best at 360 pixels of the shorter edge, likeliest first.

    boxes: (n 4) left, top, width, height as shares of the picture. weights: (n,) how likely each is text, 0.05 to 1.
    """
    boxes, features = candidates(luma)
    likely = 1 / (1 + np.exp(-np.clip(features @ np.asarray(WEIGHTS) + BIAS, -30, 30)))
    covered = np.zeros(_grid(luma.shape), bool)
    kept = []
    for i in np.argsort(-likely, kind="stable"):
        if likely[i] < LEAST:
            break
        cells = _cells(boxes[i], covered.shape)
        if covered[cells].mean() <= COVERED:
            covered[cells] = True
            if _repeats(luma[_cells(boxes[i], luma.shape)]) <= REPEATS:
                kept.append(i)
    return boxes[kept], likely[kept]


def share(boxes: np.ndarray, weights: np.ndarray, shape: tuple[int, ...]) -> float:
    """Of the area of a picture of that (h w): the union of boxes, each cell by the largest weight that covers it."""
    grid = np.zeros(_grid(shape), np.float32)
    for i in np.argsort(weights, kind="stable"):
        grid[_cells(boxes[i], grid.shape)] = weights[i]
    return float(grid.mean())


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = CELLS / max(min(shape[:2]), 1)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def _cells(box: np.ndarray, grid: tuple[int, ...]) -> tuple[slice, slice]:
    height, width = grid
    left, top = min(round(box[0] * width), width - 1), min(round(box[1] * height), height - 1)
    right, bottom = round((box[0] + box[2]) * width), round((box[1] + box[3]) * height)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def _repeats(picture: np.ndarray) -> float:
    """The largest correlation of the columns' means with themselves that a step, two and three steps all reach; 0 to 1."""
    columns = picture.mean(0) - picture.mean()
    count = len(columns)
    if count < 16 or not columns.any():
        return 0.0
    alike = np.fft.irfft(np.abs(np.fft.rfft(columns, 2 * count)) ** 2)[:count]
    alike *= count / (alike[0] * (count - np.arange(count)))
    steps = np.arange(2, (count + 2) // 3)
    least = np.minimum(np.minimum(alike[steps], alike[2 * steps]), alike[3 * steps])
    return float(least[alike[(steps + 1) // 2] < 0.2].max(initial=0))  # a step is a peak: half of it is none


def candidates(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n 4) boxes as shares of the picture and (n 11) FEATURES of what may be a line, on all sizes."""
    import cv2

    boxes, features = [np.zeros((0, 4))], [np.zeros((0, len(FEATURES)))]
    for _ in range(LEVELS):
        height, width = (side // 2 * 2 for side in luma.shape)
        if height < 24 or width < 24:
            break
        luma = luma[:height, :width]
        found, described = _level(luma)
        boxes.append(found / (width, height, width, height))
        features.append(described)
        luma = cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.concatenate(boxes), np.concatenate(features)


def _level(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels, and features, on one size. Works on a stack of four: bright and dark strokes, low and high contrast."""
    import cv2

    height, width = luma.shape
    kernel = np.ones((STROKE, STROKE), np.uint8)
    response = np.concatenate([cv2.morphologyEx(luma, kind, kernel) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)])
    masks = np.concatenate([cv2.threshold(response, least, 255, cv2.THRESH_BINARY)[1] for least in CONTRASTS])
    strokes = _halved(masks)
    joined = cv2.threshold(strokes, 60, 1, cv2.THRESH_BINARY)[1]
    joined[height // 2 - 1 :: height // 2] = 0  # what lies one under the other in the stack stays apart
    joined = cv2.morphologyEx(joined, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, 5), np.uint8))
    outlines = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    cells = np.array([cv2.boundingRect(outline) for outline in outlines], int).reshape(-1, 4)
    tallest = min(HIGHEST, int(TALLEST * min(height, width))) // 2
    cells = cells[(cells[:, 3] >= 3) & (cells[:, 3] <= tallest) & (cells[:, 2] >= cells[:, 3])]
    cells = cells[np.argsort(-cells[:, 2] * cells[:, 3], kind="stable")[:MOST]]
    features = _features(luma, response, masks, strokes, joined, cells)
    return cells * 2 - np.array([0, 1, 0, 0]) * (cells[:, 1:2] // (height // 2) * height), features


def _features(
    luma: np.ndarray, response: np.ndarray, masks: np.ndarray, strokes: np.ndarray, joined: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """(n 11). cells: (n 4) left, top, width, height of each candidate on the stack, in cells of two by two pixels."""
    import cv2

    tall = luma.shape[0] // 2
    left, top, width, height = cells.T
    right, bottom, part = left + width, top + height, top // tall
    start = part * tall
    box = (left, top, right, bottom)
    area = (width * height).astype(float)

    dense = cv2.integral(strokes)
    inked = np.maximum(_sums(dense, *box), 1)
    other = _sums(dense, left, top + (1 - 2 * (part % 2)) * tall, right, bottom + (1 - 2 * (part % 2)) * tall)
    level, spread, color = _ink(luma, response, masks, cells)
    across = _sums(cv2.integral(_halved(_rises(masks))), *box) / 255 * 4 / (2 * height)
    flat = (left, top - start, right, bottom - start)
    sideways = _sums(cv2.integral(_halved(cv2.absdiff(luma[:, 1:], luma[:, :-1]), luma.shape)), *flat)
    upright = _sums(cv2.integral(_halved(cv2.absdiff(luma[1:], luma[:-1]), luma.shape)), *flat)

    near = np.maximum(height // 2, 1)
    mine = (inked + other) / area
    around = np.zeros(len(cells))
    for begin, end in ((np.maximum(top - near, start), top), (bottom, np.minimum(bottom + near, start + tall))):
        shift = (1 - 2 * (part % 2)) * tall
        inside = _sums(dense, left, begin, right, end) + _sums(dense, left, begin + shift, right, end + shift)
        around += np.clip(inside / np.maximum((end - begin) * width, 1) / mine, 0, 1.5)
    return np.stack(
        [
            np.log(np.clip(width / height, 1, 6)),
            _sums(cv2.integral(joined), *box) / area,
            np.log(np.maximum(level, 1) / 80),
            spread / np.maximum(level, 1),
            color / np.maximum(level, 1),
            np.abs(np.log(np.clip(sideways / np.maximum(upright, 1), 0.2, 5) / 1.3)),
            around,
            np.minimum(other / 255 / area, 0.4),
            np.abs(np.log(np.clip(across / (width / height), 0.2, 5) / 1.5)),
            _ends(dense, box, start, start + tall),
            np.log(height / 7),
        ],
        1,
    )


def _halved(picture: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Means of cells of two by two pixels; `shape`: (h w) that it is padded to with zeros before."""
    import cv2

    if shape is not None:
        picture = cv2.copyMakeBorder(
            picture, 0, shape[0] - picture.shape[0], 0, shape[1] - picture.shape[1], cv2.BORDER_CONSTANT, value=0
        )
    return cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _rises(masks: np.ndarray) -> np.ndarray:
    """255 where a stroke begins, from left to right."""
    import cv2

    found = np.zeros_like(masks)
    cv2.subtract(masks[:, 1:], masks[:, :-1], found[:, 1:])
    return found


def _sums(integral: np.ndarray, left: Any, top: Any, right: Any, bottom: Any) -> np.ndarray:
    return (integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]).astype(float)


def _ink(luma: np.ndarray, response: np.ndarray, masks: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(3 n) of each candidate's stroke pixels: mean and standard deviation of their contrast, and that of their luma."""
    import cv2

    found, tall = np.zeros((3, len(cells))), luma.shape[0]
    for i, (left, top, width, height) in enumerate((2 * cells).tolist()):
        columns, two, one = slice(left, left + width), top % (2 * tall), top % tall
        mask = masks[top : top + height, columns]
        mean, spread = cv2.meanStdDev(response[two : two + height, columns], mask=mask)
        found[:, i] = mean[0, 0], spread[0, 0], cv2.meanStdDev(luma[one : one + height, columns], mask=mask)[1][0, 0]
    return found


def _ends(dense: np.ndarray, box: tuple[Any, ...], first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """How sharply a line begins and ends: the steepest rise and fall of ink from row to row, in units of the fullest row."""
    left, top, right, bottom = box
    margin = np.maximum((bottom - top) // 2, 1)
    rows = (top - margin)[:, None] + np.arange(int((bottom - top + 2 * margin).max(initial=0)))
    real = (rows >= first[:, None]) & (rows < np.minimum(bottom + margin, stop)[:, None])
    rows = np.clip(rows, first[:, None], stop[:, None] - 1)
    ink = np.where(real, _sums(dense, left[:, None], rows, right[:, None], rows + 1) / (right - left)[:, None], np.nan)
    steps = np.nan_to_num(np.diff(ink, axis=1))
    fullest = np.maximum(np.nan_to_num(ink).max(1, initial=0), 1e-6)
    return (steps.max(1, initial=0) - steps.min(1, initial=0)) / fullest

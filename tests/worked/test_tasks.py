"""Conditioning dropout and views of the tasks, drawn by address. What an episode holds is worked in test_step.py."""

from __future__ import annotations

import dataclasses

import torch
from scipy.stats import chisquare
from torch import Tensor

from relatum.core.draws import Draws
from relatum.models.codec import Codec, Moments
from relatum.models.tiny import tiny_stable_diffusion
from relatum.tasks.base import Batch, Episode
from relatum.tasks.edit import Edit
from relatum.tasks.image import Image


def batch_of(count: int) -> Batch:
    """Rows whose tokens and latents are nowhere 0; the empty prompt is 0."""
    names = [f"row-{i}" for i in range(count)]
    number = torch.arange(1.0, count + 1)
    moments = Moments(number[:, None, None, None].repeat(1, 4, 1, 1), torch.full((count, 4, 1, 1), -30.0))
    tokens = number[:, None, None].repeat(1, 2, 3)
    return Batch(
        names, names, names, {"source": moments, "target": moments}, {"instruction": tokens, "target": tokens}, torch.zeros(1, 2, 3)
    )


def codec() -> Codec:
    return tiny_stable_diffusion().codec


def dropped(episode: Episode) -> tuple[Tensor, Tensor]:
    """Which samples lost their text, which their image."""
    view = episode.conditionings["matched"]
    assert view.image is not None
    return ~view.tokens.flatten(1).any(1), ~view.image.flatten(1).any(1)


def test_joint_frequencies_of_an_edits_dropout() -> None:
    """20,000 addresses, c = .05: text alone, image alone and both 1,000 each, neither 17,000; chi-square with 3 degrees of freedom.

    A text dropped independently of the image would leave 50 for both.
    """
    count = 20_000
    text, image = dropped(Edit().episode(batch_of(count), codec(), (), Draws(0, range(count))))
    seen = [int(cell.sum()) for cell in (text & ~image, image & ~text, text & image, ~text & ~image)]
    assert chisquare(seen, [0.05 * count, 0.05 * count, 0.05 * count, 0.85 * count]).pvalue > 1e-3


def test_dropout_at_its_ends() -> None:
    """c = 0 drops nothing; c = 1/3 drops text below 2/3 and the image from 1/3 on, so always one of them."""
    text, image = dropped(Edit(0.0).episode(batch_of(300), codec(), (), Draws(0, range(300))))
    assert not (text | image).any()
    text, image = dropped(Edit(1 / 3).episode(batch_of(300), codec(), (), Draws(0, range(300))))
    assert (text | image).all()
    assert 0 < int((text & image).sum()) < 300


def test_addresses_decide() -> None:
    """Other rows at the same addresses lose the same things; the same rows at other addresses do not."""
    batch, task = batch_of(200), Edit(0.2)
    there = dropped(task.episode(batch, codec(), (), Draws(0, range(200))))
    other = dataclasses.replace(batch, moments={k: Moments(m.mean.flip(0), m.logvar) for k, m in batch.moments.items()})
    again = dropped(task.episode(other, codec(), (), Draws(0, range(200))))
    moved = dropped(task.episode(batch, codec(), (), Draws(0, range(200, 400))))
    assert torch.equal(torch.stack(there), torch.stack(again))
    assert not torch.equal(torch.stack(there), torch.stack(moved))
    late = dropped(task.episode(batch_of(50), codec(), (), Draws(0, range(150, 200))))
    assert torch.equal(torch.stack(late), torch.stack(there)[:, 150:])


def test_the_null_view_differs_in_its_text_alone() -> None:
    """No text at all, and the image that the matched view has, dropped or not."""
    views = Edit(0.2).episode(batch_of(100), codec(), (), Draws(0, range(100))).conditionings
    assert set(views) == {"matched", "null"}
    assert not views["null"].tokens.any()
    matched, null = views["matched"].image, views["null"].image
    assert matched is not None
    assert null is not None
    assert torch.equal(matched, null)


def test_views_of_text_to_image() -> None:
    """No image; captions stay whole where they are not dropped."""
    batch = batch_of(100)
    views = Image(0.3).episode(batch, codec(), (), Draws(0, range(100))).conditionings
    assert views["matched"].image is None
    assert views["null"].image is None
    kept = views["matched"].tokens.flatten(1).any(1)
    assert 50 < int(kept.sum()) < 90
    assert torch.equal(views["matched"].tokens[kept], batch.tokens["target"][kept])

"""Tiny models on disk and one cache, shared by all tests that go through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from relatum.models.tiny import tiny_stable_diffusion


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edit model as a pipeline folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-edit"
    tiny_stable_diffusion().save_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model as a pipeline folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-image"
    tiny_stable_diffusion(0).save_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one test has encoded the next need not."""
    return tmp_path_factory.mktemp("cache")

"""What every test shares: one seed, no network, two threads, and the folder of real data where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]

# Processes that tests start see this source tree too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Unaddressed draws (a layer's initial weights) are the same in every test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: $RELATUM_SHARED_DATA, or shared/data beside the repository; without it the test is skipped."""
    folder = Path(os.environ.get("RELATUM_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set RELATUM_SHARED_DATA to the folder with lpc_sprites/, twemoji/, ...")
    return folder

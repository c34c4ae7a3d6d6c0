"""Looking is free: importing the package or asking for help loads no torch. (Who imports whom is checked by lint-imports.)"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = "torch", "diffusers", "transformers", "accelerate", "peft", "datasets", "numpy"

ASK = """
import contextlib, io, sys
{code}
print(*[name for name in {heavy} if name in sys.modules], sep=",")
"""

HELP = """
from relatum.cli import main
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main(["--help"])
assert "compare" in said.getvalue(), said.getvalue()
"""


@pytest.mark.parametrize("code", ["import relatum", HELP], ids=["import", "help"])
def test_answers_quickly_without_torch(code: str) -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", ASK.format(code=code, heavy=HEAVY)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert time.perf_counter() - started < 5  # under one second on an idle machine; five leaves room for a busy one


WORKER = "frame", "reader", "opening", "timeline", "turn", "damage", "cuts", "dissolve"


def test_processes_that_decode_load_no_torch() -> None:
    """What a worker of a curation imports; OpenCV and PyAV are loaded when the first video is opened."""
    code = "\n".join(["import relatum.curation.base", *(f"import relatum.video.{name}" for name in WORKER)])
    heavy = "torch", "cv2", "av", "scenedetect", "transformers"
    done = subprocess.run([sys.executable, "-c", ASK.format(code=code, heavy=heavy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr

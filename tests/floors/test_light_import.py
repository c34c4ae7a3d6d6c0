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

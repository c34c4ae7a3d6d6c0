"""What is not finite stops every process before the update and is named; signals ask politely once."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
import torch

from relatum.core.path import NoiseLevel
from relatum.core.ranks import Ranks
from relatum.engine.guard import find_nonfinite
from relatum.engine.signals import StopRequest

WHERE = ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]
GOOD = torch.tensor([1.0, 2.0, 3.0])
BAD = torch.tensor([1.0, float("nan"), 3.0])
LEVEL = NoiseLevel(torch.tensor([10.0, 20.0, 30.0]), torch.ones(3), torch.ones(3))


def test_finite_steps_pass() -> None:
    assert find_nonfinite({"mse": GOOD}, GOOD, torch.tensor(1.0), WHERE, LEVEL) is None
    assert find_nonfinite({"mse": GOOD}, GOOD.mean(), None, WHERE, None) is None


def test_term_row_and_noise_level_are_named() -> None:
    said = find_nonfinite({"mse": GOOD, "pull": BAD}, BAD, torch.tensor(float("nan")), WHERE, LEVEL)
    assert said == "term 'pull' is not finite for rows.jsonl:2 at noise level 20"


def test_a_term_of_weight_zero_counts() -> None:
    assert find_nonfinite({"pull": BAD}, GOOD, None, WHERE, None) == "term 'pull' is not finite for rows.jsonl:2"


@pytest.mark.parametrize("norm", [torch.tensor(float("inf")), float("nan")])
def test_a_gradient_that_is_not_finite_names_the_batch(norm: torch.Tensor | float) -> None:
    problem = find_nonfinite({"mse": GOOD}, GOOD, norm, WHERE, LEVEL)
    assert problem is not None
    assert "the gradient's norm is not finite" in problem
    assert "rows.jsonl:1 at noise level 10, rows.jsonl:2 at noise level 20" in problem


def test_every_process_says_the_same() -> None:
    """Two processes of three samples by two threads: the second one's row breaks, both name it."""
    first, second = threaded_ranks()
    mine = ["a.jsonl:1", "a.jsonl:2", "ä.jsonl:3"]
    with ThreadPoolExecutor(2) as pool:
        said = [
            pool.submit(find_nonfinite, {"mse": GOOD}, GOOD, 1.0, mine, LEVEL, first),
            pool.submit(find_nonfinite, {"mse": BAD}, BAD, 1.0, WHERE, LEVEL, second),
        ]
    assert [future.result() for future in said] == ["term 'mse' is not finite for rows.jsonl:2 at noise level 20"] * 2


def threaded_ranks() -> tuple[Ranks, Ranks]:
    barrier, slots = Barrier(2, timeout=20), [torch.zeros(0), torch.zeros(0)]

    def gather(rank: int, tensor: torch.Tensor) -> torch.Tensor:
        slots[rank] = tensor
        barrier.wait()
        whole = torch.cat(slots)
        barrier.wait()
        return whole

    return Ranks(0, 2, partial(gather, 0)), Ranks(1, 2, partial(gather, 1))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(signum: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    class Ended(BaseException):
        pass

    def end(*_: object) -> None:
        raise Ended

    before = signal.signal(signum, end)
    try:
        with StopRequest() as stop:
            assert not stop.requested
            os.kill(os.getpid(), signum)
            assert stop.requested
            assert stop.signum == signum
            assert "writing a checkpoint" in capsys.readouterr().err
            with pytest.raises(Ended):
                os.kill(os.getpid(), signum)
        with StopRequest():
            pass
        assert signal.getsignal(signum) is end
    finally:
        signal.signal(signum, before)

"""What an outcome says of its views and keeps of what is watched."""

import pytest
import torch

from support.outcomes import make_outcome


def test_the_error_is_that_of_the_view_asked_for() -> None:
    """Raw outputs of "null" replaced by truth + 2: its error is 4 a sample, whatever "matched" has."""
    outcome, raws = make_outcome()
    truth = outcome.truth(outcome.matched.kind)
    raws["null"].data.copy_(truth + 2)
    assert outcome.error("null").tolist() == pytest.approx([4.0] * len(outcome.clean), rel=1e-5)
    assert not torch.allclose(outcome.error(), outcome.error("null"))


def test_what_is_watched_has_no_gradient() -> None:
    outcome, _ = make_outcome()
    outcome.watch("error", outcome.error())
    assert not outcome.watched["error"].requires_grad

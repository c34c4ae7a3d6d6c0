"""An objective of clips of your own: errors that bend from frame to frame cost extra (independent ones 6 times their square)."""

from dataclasses import dataclass

from relatum.core.outcome import MATCHED, Outcome
from relatum.core.registry import objective
from relatum.core.shapes import PerSample


@objective("bending")
@dataclass(frozen=True)
class Bending:
    strength: float = 0.5
    asks = (MATCHED,)
    needs_clips = True

    def __call__(self, outcome: Outcome) -> PerSample:
        held = outcome.neighbors[:, 1:] & outcome.neighbors[:, :-1]  # not across cuts; refuses pictures
        r = outcome.matched.raw.float() - outcome.truth(outcome.matched.kind)  # (b c t h w)
        bend = (r[:, :, 2:] - 2 * r[:, :, 1:-1] + r[:, :, :-2]).square().mean((1, 3, 4))
        extra = (bend * held).sum(1) / held.sum(1).clamp_min(1)
        return (outcome.error() + self.strength / 6 * extra) / (1 + self.strength)

"""An objective of your own: Charbonnier error of the predicted clean latent, where the noise leaves something to predict.

Charbonnier (1994): sqrt(e^2 + width^2) - width, quadratic for small errors and linear for large ones.
"""

from dataclasses import dataclass

from relatum.core.outcome import MATCHED, Outcome
from relatum.core.registry import objective
from relatum.core.shapes import PerSample


@objective("charbonnier")
@dataclass(frozen=True)
class Charbonnier:
    width: float = 0.1
    least_snr: float = 0.1
    asks = (MATCHED,)

    def __call__(self, outcome: Outcome) -> PerSample:
        error = (outcome.matched.x0 - outcome.clean).square().add(self.width**2).sqrt() - self.width
        return error.flatten(1).mean(1) * (outcome.level.snr > self.least_snr)

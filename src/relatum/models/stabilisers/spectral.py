"""sigmaReparam (Zhai et al. 2023): linear layers whose largest gain is one learned number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SpectralLinear"]

ITERATIONS = 500  # of the start vectors, at most
SETTLED = 1e-9  # relative change of sigma at which they stop


class SpectralLinear(nn.Module):
    """y = W_hat x + b, W_hat = gamma / sigma(W) * W, sigma(W) = u' W v. We start gamma at sigma(W), the paper at 1.

    So the outputs are those of `linear` until it is trained, and a pretrained layer may be converted. weight and bias are the same
    parameters under the same names. u, v: left and right singular vectors, moved by one power iteration a training forward of the
    *network* (`advance`, called by a hook on the network: layers that gradient checkpointing runs again do not move them).
    """

    weight: Tensor
    u: Tensor
    v: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        u, v = _singular(self.weight)
        self.register_buffer("u", u)
        self.register_buffer("v", v)
        self.gamma = nn.Parameter(self.sigma().detach().clone())

    def sigma(self) -> Tensor:
        """The largest singular value, as u and v know it; its gradient with respect to W is u v'."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return torch.dot(self.u.clone(), self.weight.float() @ self.v.clone())  # clones: u and v may move before the backward

    def effective(self) -> Tensor:
        """W_hat, what a plain linear layer must hold to compute the same."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return (self.gamma.float() / self.sigma() * self.weight.float()).to(self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.effective(), self.bias)

    @torch.no_grad()
    def advance(self) -> None:
        """One power iteration."""
        with torch.autocast(self.weight.device.type, enabled=False):
            _iterate(self.weight.float(), self.u, self.v)


def _iterate(weight: Tensor, u: Tensor, v: Tensor) -> None:
    u.copy_(F.normalize(weight @ v, dim=0))
    v.copy_(F.normalize(weight.T @ u, dim=0))


@torch.no_grad()
def _singular(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Converged vectors of the largest singular value, from a fixed start."""
    matrix = weight.detach().float()
    v = torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(0)).to(matrix.device)
    u, before = matrix.new_zeros(len(matrix)), 0.0
    for _ in range(ITERATIONS):
        _iterate(matrix, u, v)
        now = float(torch.dot(u, matrix @ v))
        if abs(now - before) <= SETTLED * now:
            break
        before = now
    return u, v

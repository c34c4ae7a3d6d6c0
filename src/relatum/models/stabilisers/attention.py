"""What bounds the logits of an attention layer: QK-norm (Henry et al. 2020) and a soft cap."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import RecipeError

__all__ = ["SoftCap", "Unit", "UnitTimes", "bound_logits"]

EPSILON = 1e-6


class Unit(nn.Module):
    """Keys of length 1, head by head."""

    def forward(self, key: Tensor) -> Tensor:
        return F.normalize(key.float(), dim=-1, eps=EPSILON).to(key.dtype)


class UnitTimes(nn.Module):
    """Queries of length g sqrt(d), one learned g a layer: attention divides by sqrt(d), so that its logits are g * cosine."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, query: Tensor) -> Tensor:
        unit = F.normalize(query.float(), dim=-1, eps=EPSILON)
        return (unit * (self.gain.float() * math.sqrt(query.shape[-1]))).to(query.dtype)


class SoftCap(nn.Module):
    """An attention processor whose logits z become cap * tanh(z / cap); else diffusers' AttnProcessor2_0, for tokens (b n c)."""

    cap: Tensor

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.register_buffer("cap", torch.tensor(cap))  # a buffer, so that it is part of what a model's weights are hashed to

    def logits(self, attn: Any, query: Tensor, key: Tensor) -> Tensor:
        """Capped logits (n heads q k), in float32, of projected queries and keys (n heads tokens d)."""
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        logits = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
        return self.cap.float() * torch.tanh(logits / self.cap.float())

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        logits = self.logits(attn, query, key)
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(key))
            logits = logits + mask.view(len(key), attn.heads, -1, mask.shape[-1])
        out = (logits.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor


def bound_logits(attn: Any, name: str, gain: float | None, cap: float | None) -> None:
    """Gives a diffusers Attention QK-norm of this start gain and a soft cap, in place; None leaves that one out.

    RecipeError for a layer that is normalized already, or that is no plain attention over tokens.
    """
    odd = [part for part in ("group_norm", "spatial_norm", "norm_cross", "added_kv_proj_dim") if getattr(attn, part) is not None]
    if odd or type(attn.processor).__name__ not in ("AttnProcessor2_0", "SoftCap"):
        what = f"has {odd[0]}" if odd else f"runs through {type(attn.processor).__name__}"
        raise RecipeError(f"{name} {what}; qk_norm and soft_cap are for plain attention layers: narrow model.stabilize.pattern")
    if gain is not None:
        if attn.norm_q is not None:
            raise RecipeError(f"{name} normalizes its queries already; narrow model.stabilize.pattern, or leave qk_norm out")
        attn.norm_q, attn.norm_k = UnitTimes(gain).to(attn.to_q.weight.device), Unit()
    if cap is not None:
        attn.set_processor(SoftCap(cap).to(attn.to_q.weight.device))

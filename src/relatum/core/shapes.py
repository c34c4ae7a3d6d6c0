"""The tensors of this library, by name. Every other file speaks these words.

b samples, c channels, t frames, h x w grid, n tokens, d features. `grid` is (h, w) for images and (t, h, w) for videos.
Latents are float32, about unit variance, after the codec's scaling. Pixels are float32 in [-1, 1].
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Features", "Keys", "Latents", "Masks", "NullTokens", "PerSample", "Pixels", "Stacked", "Tokens", "Told"]
__all__ += ["Chosen", "Film", "Joined", "Leveled", "VideoLatents", "Videos"]

PerSample = Float[Tensor, "b"]
Keys = Int[Tensor, "b"]
Chosen = Bool[Tensor, "b"]  # which samples
Leveled = Float[Tensor, "b *frames"]  # one number a sample, or one a frame
Joined = Bool[Tensor, "b steps"]  # of the t - 1 pairs of neighboring frames, which belong together
Latents = Float[Tensor, "b c *grid"]
Stacked = Float[Tensor, "b k_c *grid"]  # latents of one or more pictures over the channels
Told = Float[Tensor, "b f"]  # numbers that a network is told beside the noise level
VideoLatents = Float[Tensor, "b c t h w"]
Videos = Float[Tensor, "b 3 t h w"]
Film = Float[Tensor, "t 3 h w"]  # one video's frames
Pixels = Float[Tensor, "b 3 h w"]
Masks = Float[Tensor, "b 1 h w"]
Tokens = Float[Tensor, "b n d"]
NullTokens = Float[Tensor, "1 n d"]
Features = Float[Tensor, "b d"]

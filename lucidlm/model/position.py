"""Where a word stands: sinusoids (2017), rotation (RoPE), and T5's bias by distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lucidlm.config import RelativeBias, Rope


def sinusoids(positions: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """(B, T) -> (B, T, dim): [sin | cos] of position / 10000^(2i/dim), i < dim/2 (Vaswani et al.
    2017, 3.5).
    """
    i = torch.arange(dim // 2, device=positions.device, dtype=torch.float64)
    angles = positions[..., None] / 10000.0 ** (2 * i / dim)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(dtype)


def frequencies(rope: Rope, head_dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(D/2,) radians by which pair i turns at each position: base^(-2i/D), scaled as `rope`
    says.
    """
    i = torch.arange(0, head_dim, 2, dtype=dtype, device=device)
    turn = 1.0 / rope.base ** (i / head_dim)
    if rope.scaling == "linear":
        return turn / rope.factor
    if rope.scaling == "llama3":
        wavelengths = 2 * math.pi / turn
        periods = (
            rope.original_positions / wavelengths
        )  # turns completed within the original context
        keep = (periods - rope.low_factor) / (rope.high_factor - rope.low_factor)
        keep = keep.clamp(0, 1)
        return (1 - keep) * turn / rope.factor + keep * turn
    return turn


def rotation(
    rope: Rope, positions: Tensor, head_dim: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(B, T) -> cosine and sine of every pair's angle, each (B, 1, T, D), the D/2 angles twice."""
    exact = torch.promote_types(dtype, torch.float32)
    turn = frequencies(rope, head_dim, exact, positions.device)
    angles = (positions[..., None].to(exact) * turn).repeat(1, 1, 2)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos_sin: tuple[Tensor, Tensor]) -> Tensor:
    """Turn dimensions (i, i + D/2) of x (B, H, T, D) by their angles, so that q.k depends on
    distance alone.
    """
    cos, sin = cos_sin
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class RelativePositions(nn.Module):
    """T5's scores bias (Raffel et al. 2020, 2.1): one learned number per head and bucket of
    distance.
    """

    def __init__(self, config: RelativeBias, heads: int, two_sided: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.buckets, heads))
        self.config, self.two_sided = config, two_sided

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions (B, T) and (B, S) -> bias (B, H, T, S)."""
        distance = keys[:, None, :] - queries[:, :, None]  # (B, T, S), negative is earlier
        return self.weight[self.bucket(distance)].permute(0, 3, 1, 2)

    def bucket(self, distance: Tensor) -> Tensor:
        """Near distances have a bucket each; farther ones share, logarithmically, up to
        `max_distance`.
        """
        buckets, later = self.config.buckets, torch.zeros_like(distance)
        if self.two_sided:
            buckets //= 2
            later = (distance > 0).long() * buckets
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2
        # float32 as in the models' training code: the rounding decides the bucket at powers of the
        # ratio
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(
            self.config.max_distance / exact
        )
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return later + torch.where(distance < exact, distance, far)

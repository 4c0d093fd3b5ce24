"""How fast this device multiplies matrices, measured: what a run's speed is compared with."""

from __future__ import annotations

import time

import torch

SECONDS = 0.3
SIZE = {"cpu": 1024, "cuda": 8192}  # of square matrices


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The best FLOP/s of a large product in `dtype`, two operations a multiplication and sum."""
    size = SIZE.get(device.type, 1024)
    a = torch.ones(size, size, device=device, dtype=dtype)
    b = torch.ones(size, size, device=device, dtype=dtype)
    fastest, end = float("inf"), time.perf_counter() + SECONDS
    while fastest == float("inf") or time.perf_counter() < end:
        begun = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * size**3 / fastest

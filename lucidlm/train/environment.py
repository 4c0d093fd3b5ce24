"""What a training process wants of its environment: read once at its start, so set before it."""

from __future__ import annotations

# glibc hands large blocks back to the system and has every page of the next one faulted in again;
# activations are such blocks, taken and freed each step. Kept, a step is a quarter faster.
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def environment() -> dict[str, str]:
    """Variables that make training on a CPU faster; what the user has set himself goes before."""
    return dict(_ALLOCATOR)

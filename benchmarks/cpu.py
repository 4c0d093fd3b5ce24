"""The native engine beside llama.cpp on the same GGUF files: decoding and reading a prompt.

llama.cpp comes through its Python binding (`pip install llama-cpp-python`, which compiles for the
machine); each has as many threads as there are cores. Both read the same ids and take the same
steps, and take turns; a ratio is taken round by round. Before every round the memory's speed is
measured: what a token reads, over its time, is a share of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import arguments, report, seconds, spread

import lucidlm
from lucidlm.checkpoint.load import resolve
from lucidlm.engine import ForwardContext

PROMPT, NEW, LONG = 32, 128, 512


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--more", nargs="*", default=[], help="other models, or .gguf files")
    options = parser.parse_args()
    found = {name: measure(name, options.rounds) for name in (options.model, *options.more)}
    report("cpu", {each["file"]: each for each in found.values()}, options)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One file on both."""
    path = resolve(name)
    threads = len(os.sched_getaffinity(0))
    begun = time.perf_counter()
    engine: Any = lucidlm.load(name, engine="native").engine
    loaded = time.perf_counter() - begun
    arms = {"native": ours(engine)}
    try:
        import llama_cpp
    except ModuleNotFoundError:
        llama_cpp = None
    if llama_cpp is not None:
        arms["llama_cpp"] = theirs(llama_cpp, str(path), threads)
    random = np.random.default_rng(0)
    ids = random.integers(5, min(engine.vocab_size, 30_000), LONG).tolist()
    times: dict[str, dict[str, list[float]]] = {"decode": {}, "prefill": {}}
    bandwidth = []
    for run in arms.values():  # warm
        run(ids[:PROMPT], ids[:4])
    for _ in range(rounds):
        bandwidth.append(memory_speed(threads))
        for arm, run in arms.items():
            run(ids[:PROMPT], [])
            whole = seconds(lambda run=run: run(ids[:PROMPT], ids[:NEW]))
            prompt = seconds(lambda run=run: run(ids[:PROMPT], []))
            times["decode"].setdefault(arm, []).append((whole - prompt) / NEW)
            long = seconds(lambda run=run: run(ids, []))
            times["prefill"].setdefault(arm, []).append(long / LONG)
    read = engine.weight_bytes
    result: dict[str, Any] = {
        "file": path.name,
        "instructions": engine.instructions,
        "load_seconds": loaded,
        "bytes_per_token": read,
        "memory_gb_per_second": spread(bandwidth),
        "share_of_memory_speed": spread(
            [read / t / 1e9 / b for t, b in zip(times["decode"]["native"], bandwidth, strict=True)]
        ),
    }
    for kind, found in times.items():
        result[f"{kind}_tokens_per_second"] = {
            n: spread([1 / t for t in ts]) for n, ts in found.items()
        }
        if "llama_cpp" in found:
            pairs = zip(found["llama_cpp"], found["native"], strict=True)
            result[f"{kind}_ratio"] = spread([b / a for b, a in pairs])
    return result


Run = Callable[[list[int], list[int]], None]


def ours(engine: Any) -> Run:
    def run(prompt: list[int], steps: list[int]) -> None:
        ctx = ForwardContext(cache=engine.cache(1))
        engine.step([prompt], ctx)
        for id in steps:
            engine.step([[id]], ctx)

    return run


def theirs(module: Any, path: str, threads: int) -> Run:
    model = module.Llama(
        path, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def run(prompt: list[int], steps: list[int]) -> None:
        model.reset()
        model.eval(prompt)
        for id in steps:
            model.eval([id])

    return run


def memory_speed(threads: int) -> float:
    """GB/s that all threads together read of a buffer far larger than the caches."""
    import torch

    torch.set_num_threads(threads)
    buffer = torch.ones(1 << 26)  # 256 MiB
    buffer.sum()
    return max(buffer.numel() * 4 / seconds(buffer.sum) / 1e9 for _ in range(5))


if __name__ == "__main__":
    main()

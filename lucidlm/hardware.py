"""What this machine has, and whether a model would fit it: for `count --here`, without PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lucidlm.count import Count
from lucidlm.locale import text

CGROUP = Path("/sys/fs/cgroup")
PROBE_BYTES = 128 << 20  # well beyond the caches of today's CPUs
PROBE_SECONDS = 0.1
GPU_TIMEOUT = 2.0  # seconds to wait for nvidia-smi


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    memory: int  # bytes


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes in bytes; None is what the system does not tell."""

    cores: int  # that this process may use
    memory: int | None
    available: int | None  # for new processes, without swapping
    gpus: tuple[Gpu, ...] = ()

    @property
    def largest_gpu(self) -> Gpu | None:
        return max(self.gpus, key=lambda gpu: gpu.memory, default=None)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether a model runs here, and at most how fast, estimated from memory's speed alone."""

    machine: Machine
    bandwidth: float  # bytes per second
    needed: int  # bytes of weights and cache
    fits: bool | None  # None: the system does not tell its memory
    fits_gpu: bool | None  # in the largest; None: there is no GPU
    read_per_token: int  # bytes
    tokens_per_second: float | None  # written on the CPU; None where it cannot, or only reads

    def sentences(self, lang: str = "en") -> list[str]:
        """The same in words."""
        verdict = {True: "fits", False: "too_big", None: "unknown"}[self.fits]
        needed, free = readable(self.needed), readable(self.machine.available or 0)
        lines = [text(f"count.here_{verdict}", lang, needed=needed, available=free)]
        if gpu := self.machine.largest_gpu:
            verdict = "gpu_fits" if self.fits_gpu else "gpu_too_big"
            memory = readable(gpu.memory)
            lines.append(text(f"count.here_{verdict}", lang, name=gpu.name, memory=memory))
        if rate := self.tokens_per_second:
            speed = {"rate": f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"}
            speed |= {"bandwidth": readable(self.bandwidth), "read": readable(self.read_per_token)}
            lines.append(text("count.here_speed", lang, **speed))
        return lines


def here() -> Machine:
    """This machine, as far as this process may use it (CPU affinity and container limits count)."""
    memory, available = _memory()
    return Machine(cores=_cores(), memory=memory, available=available, gpus=_gpus())


def fits(
    count: Count,
    machine: Machine,
    bandwidth: float,
    bytes_per_parameter: float = 2.0,
    context: int = 2048,
) -> Fit:
    """Does the model fit with the cache of `context` tokens, its weights at `bytes_per_parameter`?

    Writing a token reads every matrix weight and the cache once, and on a CPU that reading is what
    takes the time; so tokens per second are at most `bandwidth` (bytes/s) over the bytes read.
    """
    context = min(context, count.config.max_positions)
    cache = count.kv_cache_bytes(context)
    needed = round(count.parameters * bytes_per_parameter) + cache
    read = round(count.flops_per_token / 2 * bytes_per_parameter) + cache
    room = machine.available
    fit = None if room is None else needed <= room
    gpu = machine.largest_gpu
    writes = fit is not False and count.config.decoder is not None
    return Fit(
        machine=machine,
        bandwidth=bandwidth,
        needed=needed,
        fits=fit,
        fits_gpu=None if gpu is None else needed <= gpu.memory,
        read_per_token=read,
        tokens_per_second=bandwidth / read if writes else None,
    )


def memory_bandwidth(cores: int) -> float:
    """Bytes per second that `cores` threads read together, measured in about 0.2 s."""
    import numpy as np

    buffer = np.ones(PROBE_BYTES // 8)  # written, so that every page is really there
    pieces = np.array_split(buffer, cores)
    fastest = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        end = time.perf_counter() + PROBE_SECONDS
        while fastest == float("inf") or time.perf_counter() < end:
            start = time.perf_counter()
            list(pool.map(np.add.reduce, pieces))
            fastest = min(fastest, time.perf_counter() - start)
    return buffer.nbytes / fastest


def readable(size: float) -> str:
    """A number of bytes in the unit that suits it, powers of 1000: 12.3 GB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 100 and unit != "B" else f"{size:.0f} {unit}"


def _cores() -> int:
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory() -> tuple[int | None, int | None]:
    """(whole, available), each no more than a container's limit."""
    lines = dict(
        line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line
    )
    kilobytes = {name: int(value.split()[0]) for name, value in lines.items() if value.split()}
    if "MemTotal" in kilobytes:
        total = kilobytes["MemTotal"] << 10
        free = kilobytes.get("MemAvailable", kilobytes["MemTotal"]) << 10
    elif (installed := _installed()) is not None:
        total = free = installed  # macOS says how much there is, not how much could be had
    else:
        return None, None
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split(" ", 1) for line in _read(CGROUP / "memory.stat").splitlines())
        used_for_good = int(used) - int(stat.get("inactive_file", 0))  # cached files give way
        total, free = min(total, int(limit)), min(free, max(0, int(limit) - used_for_good))
    return total, free


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's, as its own tool lists them; none when it is absent, fails or takes too long."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GPU_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rpartition(",") for line in answer.stdout.splitlines()]
    sizes = [(name.strip(), mebibytes.strip()) for name, _, mebibytes in rows]
    return tuple(Gpu(name=n, memory=int(size) << 20) for n, size in sizes if size.isdigit())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

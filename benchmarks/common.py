"""What every benchmark shares: the machine in words, medians, and the results file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument("--save", action="store_true", help=f"keep it under {RESULTS.name}/")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import numpy
    import torch
    import transformers

    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc") else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
    }


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def report(name: str, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Print `result` as a table or JSON, and keep it where asked to."""
    result = {"benchmark": name, "model": options.model, "machine": machine(), **result}
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for key, value in result.items():
        if isinstance(value, dict) and "median" in value:
            low, middle, high = (value[x] for x in ("min", "median", "max"))
            print(f"{key:<34} {middle:10.3f}   ({low:.3f} to {high:.3f})")
        else:
            print(f"{key:<34} {value}")

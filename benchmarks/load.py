"""Time and memory to load a GGUF file into float32, beside transformers: fresh processes, in turn.

The file is warm in the cache. Imports are not counted: time and memory are those of the load call,
memory as growth of the process's peak, in units of the float32 weights.
"""

from __future__ import annotations

import json
import subprocess
import sys

from common import arguments, report, spread

from lucidlm.checkpoint.load import read_config, resolve
from lucidlm.count import count

OURS = """
import lucidlm.api, lucidlm.model.engine
def load(name, path): return lucidlm.api.load(name)
"""
THEIRS = """
import torch, transformers, warnings
from transformers.models.llama import modeling_llama
warnings.simplefilter("ignore")
def load(name, path):
    transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32)
"""
MEASURE = """
import json, pathlib, resource, sys, time
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, begun = peak(), time.perf_counter()
model = load(sys.argv[1], pathlib.Path(sys.argv[2]))
print(json.dumps([time.perf_counter() - begun, peak() - before, peak()]))
"""


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    path = resolve(options.model)
    path.read_bytes()  # warm
    weights = 4 * count(read_config(options.model)).parameters

    def measure(code: str) -> list[float]:
        command = [sys.executable, "-c", code + MEASURE, options.model, str(path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: list[float] = json.loads(out.splitlines()[-1])
        return found

    rounds = [(measure(OURS), measure(THEIRS)) for _ in range(options.rounds)]
    report(
        "load",
        {
            "seconds": spread([a[0] for a, _ in rounds]),
            "transformers_seconds": spread([b[0] for _, b in rounds]),
            "ratio": spread([a[0] / b[0] for a, b in rounds]),
            "growth_in_weights": spread([a[1] / weights for a, _ in rounds]),
            "transformers_growth_in_weights": spread([b[1] / weights for _, b in rounds]),
            "peak_megabytes": spread([a[2] / 1e6 for a, _ in rounds]),
            "transformers_peak_megabytes": spread([b[2] / 1e6 for _, b in rounds]),
        },
        options,
    )


if __name__ == "__main__":
    main()

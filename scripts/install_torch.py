"""Install PyTorch where this script runs: the CPU build, unless the machine has an NVIDIA GPU.

On Linux the `torch` of the default package index is a CUDA build of several gigabytes. The CPU
build is published under the same version with the local label `+cpu`, on an index of PyTorch's own;
it is found if pip looks there, or in a folder of wheels that pip is told of (`--index-url`,
`--extra-index-url`, `--find-links`, or their variables and settings).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

CPU_BUILD = "torch==2.13.0+cpu"
CPU_BUILD_MISSING = """
No CPU build of PyTorch where your pip looks, so pip takes the default one, which on Linux carries
CUDA (gigabytes). To get the small one, stop here, set PIP_EXTRA_INDEX_URL (or give pip
--extra-index-url) to PyTorch's index of CPU wheels, and run the same command again.
"""


def main() -> int:
    """Install, and return pip's exit status."""
    if sys.platform == "linux" and not has_gpu():
        if install(CPU_BUILD) == 0:
            return 0
        print(CPU_BUILD_MISSING, flush=True)
    return install(requirement())


def has_gpu() -> bool:
    """Whether NVIDIA's driver answers and lists a device."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return False
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def requirement() -> str:
    """The versions that the extra `torch` admits."""
    project = Path(__file__).parent.parent / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return str(extras["torch"][0])


def install(what: str) -> int:
    """Run pip in this interpreter; nothing happens when `what` is already there."""
    print(f"Installing {what}", flush=True)
    return subprocess.run([sys.executable, "-m", "pip", "install", what]).returncode


if __name__ == "__main__":
    sys.exit(main())

"""What importing a part brings along: no PyTorch outside `model`, next to nothing in the ground.

Each check runs in an interpreter of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lucidlm"
NEEDS_TORCH = {"model", "train"}
LIGHT = ("errors", "locale", "home", "config", "parameters", "count")
LIGHT_SECONDS = 0.05


def modules() -> dict[str, list[str]]:
    """Every module of the package, by the part of it that it belongs to. A lesson's script for the
    reader is no module.
    """
    parts: dict[str, list[str]] = {}
    for path in sorted(set(PACKAGE.rglob("*.py")) - set(PACKAGE.glob("lessons/*/code.py"))):
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(names).removesuffix(".__init__")
        parts.setdefault((*module.split("."), "lucidlm")[1], []).append(module)
    return parts


def run(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("part", sorted(set(modules()) - NEEDS_TORCH))
def test_importing_a_part_does_not_import_torch(part: str) -> None:
    imports = "\n".join(f"import {module}" for module in modules()[part])
    loaded = run(f"import sys\n{imports}\nprint(*sys.modules)").split()
    assert not {"torch", "transformers"} & set(loaded)


def test_this_notices_an_import_of_torch() -> None:
    assert "torch" in run("import sys\nimport lucidlm.model.norm\nprint(*sys.modules)").split()


def import_seconds(module: str, runs: int = 5) -> float:
    """The best of some runs, each in a fresh interpreter: the others met the machine's own work."""
    code = (
        "import time\n"
        "start = time.perf_counter()\n"
        f"import {module}\n"
        "print(time.perf_counter() - start)"
    )
    return min(float(run(code)) for _ in range(runs))


@pytest.fixture(scope="module")
def allowance() -> float:
    """50 ms, or what NumPy alone takes on a machine so slow or busy that this is more."""
    return max(LIGHT_SECONDS, import_seconds("numpy"))


@pytest.mark.parametrize("part", LIGHT)
def test_the_ground_is_light(part: str, allowance: float) -> None:
    assert import_seconds(f"lucidlm.{part}") < allowance


@pytest.mark.parametrize("part", LIGHT)
def test_the_ground_needs_only_the_standard_library(part: str) -> None:
    code = "import sys\nbefore = set(sys.modules)\nimport {}\nprint(*set(sys.modules) - before)"
    loaded = {name.split(".")[0] for name in run(code.format(f"lucidlm.{part}")).split()}
    assert loaded <= {"lucidlm", *sys.stdlib_module_names}

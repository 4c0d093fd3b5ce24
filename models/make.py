"""`make models`: train each shipped model by its recipe, measure it, and put it into the package.

    python -m models.make                    all four
    python -m models.make mini               one
    python -m models.make mini --measure     no training: measure and pack what is in build/models

A run that was interrupted goes on where its last checkpoint stands.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from models.cards import CARDS, write_card
from models.data.prepare import OUT, prepare

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build" / "models"
SHIPPED = ROOT / "lucidlm" / "shipped"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(CARDS), metavar="NAME")
    parser.add_argument("--measure", action="store_true", help="train nothing")
    options = parser.parse_args()
    for name in options.names:
        if name not in CARDS:
            parser.error(f"there is no model {name}; there are {', '.join(CARDS)}")
        if not (OUT / name).is_dir():
            prepare(name)
        if not options.measure and (code := train(name)):
            return code
        pack(name)
    return 0


def train(name: str) -> int:
    """Run the recipe to its end; returns the exit code."""
    out = BUILT / name
    command = [sys.executable, "-m", "lucidlm", "train", f"models/{name}/recipe.toml"]
    resume = ["--resume"] if (out / "checkpoints").is_dir() else []
    return subprocess.run([*command, "--out", str(out), *resume], cwd=ROOT).returncode


def pack(name: str) -> None:
    """The trained model in bfloat16 into the package, with its card."""
    target = SHIPPED / name
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "lucidlm", "export", str(BUILT / name / "model"), str(target)]
    subprocess.run([*command, "--dtype", "bfloat16"], cwd=ROOT, check=True)
    write_card(name, target, BUILT / name)


if __name__ == "__main__":
    sys.exit(main())

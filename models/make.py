"""`make models`: train each shipped model by its recipe, measure it, and put it into the package.

    python -m models.make                    all four
    python -m models.make mini               one
    python -m models.make mini --measure     no training: measure and pack what is in build/models

A run that was interrupted goes on where its last checkpoint stands.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lucidlm.api import open_tokenizer
from lucidlm.checkpoint.load import open_checkpoint
from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.text.folder import save_tokenizer
from models.cards import CARDS, TRAINED, write_card
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
    """Run the recipe to its end, and note what it took; returns the exit code."""
    out = BUILT / name
    command = [sys.executable, "-m", "lucidlm", "train", f"models/{name}/recipe.toml", "--json"]
    resume = ["--resume"] if (out / "checkpoints").is_dir() else []
    command += ["--out", str(out), *resume]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode == 0:
        said = json.loads(done.stdout)
        noted = {key: said[key] for key in ("steps", "tokens", "seconds")}
        noted["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        (out / TRAINED).write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    return done.returncode


def pack(name: str) -> None:
    """The trained model in bfloat16 into the package, with its card."""
    target, built = SHIPPED / name, BUILT / name
    checkpoint = open_checkpoint(str(built / "model"))
    hints = replace(checkpoint.hints, beams=CARDS[name].beams)
    weights = dict(checkpoint.weights(np.float32))
    shutil.rmtree(target, ignore_errors=True)
    save_checkpoint(target, checkpoint.family, checkpoint.config, weights, hints, dtype="BF16")
    save_tokenizer(open_tokenizer(checkpoint), target)
    write_card(name, target, built)


if __name__ == "__main__":
    sys.exit(main())

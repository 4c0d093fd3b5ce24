"""Trains every run of the lesson `parts`, on one thread each, as many at once as there are
processors: `make parts`. Writes lucidlm/lessons/parts/runs.json with the machine's description, and
a picture of the loss curves for the docs.

--corpus samples anew what the runs read, corpus.txt and corpus.tsv, from the project's own
sentences (models/everyday). --resume keeps what is there of the same corpus and settings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from lucidlm.errors import LucidError
from lucidlm.files import write_atomic
from lucidlm.hardware import here
from lucidlm.lessons.parts import recorded
from lucidlm.train.environment import environment
from lucidlm.train.parts.record import Record, Records
from lucidlm.train.parts.settings import NAMES, SETTINGS, WRITERS, fingerprint

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "lucidlm" / "lessons" / "parts"
PICTURE = ROOT / "docs" / "parts.png"
DRAWN = 20_000  # pairs of the grammar to choose from
TEXT_BYTES, PAIR_BYTES = 150_000, 100_000
LONGEST = 14  # characters of a line
OPENING = "我很"  # what the runs are asked: every sentence of the draw that says it is taken
COMMON = 350  # English words that a pair may use


def sample() -> None:
    """Write corpus.txt and corpus.tsv."""
    sys.path.insert(0, str(ROOT))
    from models.data.holdout import allowed_pair, allowed_text
    from models.everyday.grammar import pairs

    drawn = list(dict.fromkeys(islice(pairs(1, DRAWN), DRAWN)))
    drawn = [pair for pair in drawn if allowed_pair(*pair)]
    written = [
        line.split("\t")[0]
        for path in sorted((ROOT / "models/everyday/sentences").glob("*.tsv"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    random = Random(1)
    random.shuffle(written)
    made = [zh for zh, _ in drawn]
    asked = [zh for zh in made if OPENING in zh]
    lines = [zh for zh in (*asked, *_mixed(written, made)) if allowed_text(zh)]
    kept = _as_many(dict.fromkeys(zh for zh in lines if len(zh) <= LONGEST), TEXT_BYTES)
    random.shuffle(kept)
    (FOLDER / "corpus.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    counted = Counter(word for _, en in drawn for word in _words(en))
    common = {word for word, _ in counted.most_common(COMMON)}
    simple = (f"{zh}\t{en}" for zh, en in drawn if len(zh) <= LONGEST and set(_words(en)) <= common)
    one = {line.split("\t")[0]: line for line in simple}
    kept = _as_many(one.values(), PAIR_BYTES)
    random.shuffle(kept)
    (FOLDER / "corpus.tsv").write_text("\n".join(kept) + "\n", encoding="utf-8")


def _mixed(first: list[str], second: list[str]) -> Iterable[str]:
    """One of the first for every two of the second."""
    for one, two, three in zip(first, second[::2], second[1::2], strict=False):
        yield from (one, two, three)


def _as_many(lines: Iterable[str], most: int) -> list[str]:
    kept, size = [], 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > most:
            break
        kept.append(line)
    return kept


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def train(resume: bool) -> None:
    """Make every run and write them down, after each again."""
    print_of = fingerprint(SETTINGS, recorded.text(), recorded.pairs())
    done = _done(print_of) if resume else ()
    made = {(run.name, run.seed): run for run in done}
    jobs = [
        (name, seed)
        for seed in SETTINGS.seeds
        for name in NAMES
        if (name, seed) not in made and (name != "n-gram" or seed == SETTINGS.seeds[0])
    ]
    os.environ.update(environment() | {"OMP_NUM_THREADS": "1"})  # read when a process starts
    workers = here().cores
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(one, *job) for job in jobs]
        for future in as_completed(futures):
            run = future.result()
            made[run.name, run.seed] = run
            print(f"{run.name} {run.seed}: {run.writing:.3f}, {run.seconds:.0f} s", flush=True)
            inorder = sorted(made.values(), key=lambda run: (run.seed, NAMES.index(run.name)))
            write(Records(fingerprint=print_of, machine=machine(), runs=tuple(inorder)))


def one(name: str, seed: int) -> Record:
    """One run, in a process of its own."""
    from lucidlm.train.parts.run import run

    return run(name, SETTINGS, recorded.text(), recorded.pairs(), seed)


def write(records: Records) -> None:
    """runs.json, a run on a line."""
    told = asdict(records)
    runs = [json.dumps(_short(run), ensure_ascii=False) for run in told.pop("runs")]
    head = json.dumps(told, ensure_ascii=False)[:-1]
    whole = f'{head}, "runs": [\n' + ",\n".join(runs) + "\n]}\n"
    write_atomic(recorded.RUNS, whole.encode("utf-8"))


def draw(records: Records) -> None:
    """The losses over the steps, of the first seed: while learning, and on held-out text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for name in WRITERS:
        run = records.of(name)[0]
        for axes, points in zip(both, (run.learnt, run.held_out), strict=True):
            if len(points) == 1:  # counted, not trained
                axes.axhline(points[0][1], color="0.4", linestyle=":", label=name)
            elif points:
                axes.plot(*zip(*points, strict=True), label=name)
    for axes, title in zip(both, ("training loss", "held-out loss, fed in"), strict=True):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("nats / token")
    figure.legend(*both[1].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(PICTURE, dpi=100)


def machine() -> str:
    """What the runs were made on."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.+)", info.read_text(encoding="utf-8"))
        name = found[1] if found else name
    return f"{name}, PyTorch {torch.__version__.partition('+')[0]}"


def _done(print_of: str) -> tuple[Record, ...]:
    try:
        records = recorded.records()
    except (OSError, LucidError):
        return ()
    return records.runs if records.fingerprint == print_of else ()


def _short(value: Any) -> Any:
    """Numbers with five digits, which is more than they mean."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", action="store_true", help="sample the corpora anew")
    parser.add_argument("--resume", action="store_true", help="keep the runs that are there")
    told = parser.parse_args()
    if told.corpus:
        sample()
    train(told.resume)
    recorded.records.cache_clear()
    draw(recorded.records())


if __name__ == "__main__":
    main()

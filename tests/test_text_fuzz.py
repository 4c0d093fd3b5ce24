"""Ten thousand damaged tokenizer.json: no crash, no hang, no more than a gigabyte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lucidlm.text.builtin import DATA

# Runs in a process of its own, since a crash would take the tests along. Prints how many loaded.
PROGRAM = """
import json, random, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))
from pathlib import Path
from lucidlm.errors import TokenizerError
from lucidlm.text.explain import explain
from lucidlm.text.tokenizer import Tokenizer

folder, sources, count, seed = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
path = folder / "tokenizer.json"
VALUES = [None, True, -1, 0, 1, 2**32, 2**63, 10**30, 0.5, -1e308, "", "a", "[MASK]", "\\u0000", "((", "(a+)+", "x" * 10**5,
          [], {}, [[]], {"type": "Sequence"}, {"Regex": "[^"}, {"Regex": "(x+x+)+y"}, {"Fixed": 10**12}, [["a", "b"]] * 100]


def small(source):
    '''The same tokenizer with a short vocabulary, so that mutations meet the settings too.'''
    value = json.loads(source)
    model = value["model"]
    keep = 60 + 256
    if isinstance(model["vocab"], dict):
        model["vocab"] = {piece: id for piece, id in model["vocab"].items() if id < keep}
        if "merges" in model:
            model["merges"] = [m for m in model["merges"] if "".join(m) in model["vocab"]]
    else:
        model["vocab"] = model["vocab"][:keep]
    return value


def places(value, found):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def mutated(source):
    if draw.random() < 0.5:
        data = bytearray(json.dumps(small(source), ensure_ascii=False).encode())
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            kind = draw.randrange(4)
            if kind == 0:
                data[at] = draw.randrange(256)
            elif kind == 1:
                del data[at : at + draw.randint(1, 40)]
            elif kind == 2:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            else:
                del data[at:]
                data += b" "
        return bytes(data)
    value = small(source)
    for _ in range(draw.randint(1, 4)):
        top = value if draw.random() < 0.2 else draw.choice([value[k] for k in value if isinstance(value[k], (dict, list))])
        options = places(top, [])
        if not options:
            continue
        holder, key = draw.choice(options)
        if draw.random() < 0.2:
            del holder[key]
        else:
            holder[key] = draw.choice(VALUES)
    return json.dumps(value).encode("utf-8", "replace")


loaded = 0
texts = [Path(source).read_bytes() for source in sources]
for number in range(count):
    path.write_bytes(mutated(draw.choice(texts)))
    try:
        tokenizer = Tokenizer.load(path)
        loaded += 1
        ids = tokenizer.encode("The cat, 我很开心 [MASK] " + "x" * 300)
        tokenizer.decode(ids, skip_special=False)
        tokenizer.encode("a<|endoftext|>", allow_special=False)
        tokenizer.vocab_size
        explain(tokenizer, "the 我 12")
    except TokenizerError as error:
        assert error.message("zh") and "MemoryError" not in str(error)
    sys.stdout.write("." if number % 500 == 0 else "")
print(loaded)
"""


def fuzz(folder: Path, count: int, seed: int) -> int:
    sources = [str(DATA / kind / "tokenizer.json") for kind in ("bpe", "wordpiece", "unigram")]
    import json

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(sources), str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=30 + count / 10,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.lstrip("."))


def test_a_few_damaged_files(tmp_path: Path) -> None:
    assert 0 < fuzz(tmp_path, 300, 1) < 300


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    assert 0 < fuzz(tmp_path, 10_000, 2) < 10_000

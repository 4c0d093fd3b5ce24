"""A program for test_text_fuzz: load damaged tokenizer.json in a process that has one gigabyte.

Arguments: a folder to write in, the sources as a JSON list of paths, how many, and a seed. Prints
how many loaded.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

from lucidlm.errors import TokenizerError
from lucidlm.text.explain import explain
from lucidlm.text.folder import load_tokenizer

draw = random.Random()
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    0.5,
    "",
    "a",
    [],
    {},
    [[]],
    {"Regex": "[^"},
    {"Fixed": 10**12},
]
STRINGS = [
    "",
    "a",
    "[MASK]",
    "<unk>",
    " ",
    "\u0000",
    "((",
    "(a+)+",
    "x" * 10**4,
    "Sequence",
    "BPE",
    "Unigram",
]
PARTS = {
    "normalizer": [
        {"type": "Replace", "pattern": {"Regex": "(x*)*x"}, "content": "yy"},
        {"type": "Replace", "pattern": {"String": ""}, "content": "y"},
        {"type": "Prepend", "prepend": "x" * 1000},
        {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"},
        {"type": "Precompiled", "precompiled_charsmap": "/////w==" * 9},
        {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFKD"},
                {"type": "Strip", "strip_left": True, "strip_right": True},
            ],
        },
    ],
    "pre_tokenizer": [
        {
            "type": "Split",
            "pattern": {"Regex": "x*x*x*x*y"},
            "behavior": "Isolated",
            "invert": False,
        },
        {"type": "Split", "pattern": {"String": ""}, "behavior": "MergedWithNext", "invert": True},
        {"type": "FixedLength", "length": 0},
        {"type": "Metaspace", "replacement": "x", "prepend_scheme": "first", "split": True},
        {"type": "UnicodeScripts"},
        {"type": "Digits", "individual_digits": True},
    ],
    "decoder": [
        {"type": "CTC", "pad_token": "a", "word_delimiter_token": "", "cleanup": True},
        {"type": "Fuse"},
        {"type": "BPEDecoder", "suffix": ""},
        {"type": "Strip", "content": "a", "start": 9, "stop": 9},
    ],
    "padding": [
        {
            "strategy": {"Fixed": 10**12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        }
    ],
}


def other(value):
    """Another value, of the same type more often than not."""
    if draw.random() < 0.3:
        return copy.deepcopy(draw.choice(VALUES))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice([0, 1, value + 1, 315, 316, 2**31, 2**32 - 1])
    if isinstance(value, float):
        return draw.choice([0.0, -value, 1e308, -1e308])
    if isinstance(value, str):
        return draw.choice([*STRINGS, value + "a", value[1:]])
    if isinstance(value, list):
        return value[draw.randint(0, 1) :] + value[: draw.randint(0, 2)]
    return value


def small(source):
    """The same tokenizer with a short vocabulary, so that mutations meet the settings too."""
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
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def mutated(source):
    if draw.random() < 0.3:
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
    for _ in range(draw.randint(0, 2)):
        top = (
            value
            if draw.random() < 0.2
            else draw.choice([value[k] for k in value if isinstance(value[k], (dict, list))])
        )
        options = places(top, [])
        if not options:
            continue
        holder, key = draw.choice(options)
        if draw.random() < 0.2:
            del holder[key]
        else:
            holder[key] = other(holder[key])
    if draw.random() < 0.3:
        part = draw.choice(list(PARTS))
        value[part] = draw.choice(PARTS[part])
    return json.dumps(value).encode("utf-8", "replace")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))
    path = Path(sys.argv[1]) / "tokenizer.json"
    sources, count = json.loads(sys.argv[2]), int(sys.argv[3])
    draw.seed(int(sys.argv[4]))
    loaded = 0
    texts = [Path(source).read_bytes() for source in sources]
    for _ in range(count):
        path.write_bytes(mutated(draw.choice(texts)))
        try:
            tokenizer = load_tokenizer(path)
            loaded += 1
            ids = tokenizer.encode("The cat, 我很开心 [MASK] " + "x" * 300)
            tokenizer.decode(ids, skip_special=False)
            tokenizer.encode("a<|endoftext|>", allow_special=False)
            tokenizer.check(10**9)
            explain(tokenizer, "the 我 12")
        except TokenizerError as error:
            assert error.message("zh") and "MemoryError" not in str(error)
    print(loaded)


if __name__ == "__main__":
    main()

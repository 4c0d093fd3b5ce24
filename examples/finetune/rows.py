"""Writes `rows.jsonl`: 240 orders at a café, each with the JSON that a till would want.

The rows are made up here and free for any use. `python examples/finetune/rows.py` writes the same
file again.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
ITEMS = (
    ("coffee", "coffees"),
    ("black tea", "black teas"),
    ("green tea", "green teas"),
    ("hot chocolate", "hot chocolates"),
    ("orange juice", "orange juices"),
    ("bagel", "bagels"),
    ("croissant", "croissants"),
    ("cheese sandwich", "cheese sandwiches"),
    ("slice of apple pie", "slices of apple pie"),
    ("bowl of soup", "bowls of soup"),
    ("muffin", "muffins"),
    ("salad", "salads"),
)
OPENINGS = (
    "I'd like {order}, please.",
    "Can I get {order}?",
    "{order}, please.",
    "Hello! We'll have {order}.",
    "Could we have {order}?",
    "For me {order}, thanks.",
)
PLACES = (("to go", (" To go, please.", " We'll take it away.")), ("here", (" For here.", "")))
ROWS = 240


def main() -> None:
    random, seen = Random(1), set()
    rows: list[str] = []
    while len(rows) < ROWS:
        chosen = random.sample(ITEMS, random.choice((1, 2, 2, 3)))
        counts = [random.choice((1, 1, 2, 3, 4)) for _ in chosen]
        said = [
            f"{NUMBERS[n]} {one if n == 1 else many}".replace("a orange", "an orange")
            for n, (one, many) in zip(counts, chosen, strict=True)
        ]
        order = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
        place, endings = random.choice(PLACES)
        text = random.choice(OPENINGS).format(order=order) + random.choice(endings)
        text = text[0].upper() + text[1:]
        if text in seen:
            continue
        seen.add(text)
        items = [{"item": one, "count": n} for n, (one, _) in zip(counts, chosen, strict=True)]
        answer = json.dumps({"items": items, "place": place})
        messages = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
        ]
        rows.append(json.dumps({"messages": messages}))
    target = Path(__file__).parent / "rows.jsonl"
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

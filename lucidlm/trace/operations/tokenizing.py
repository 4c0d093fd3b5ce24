"""A token as a cell: its id, its bytes, and the characters of the text that it covers."""

from __future__ import annotations

import math

from lucidlm.text.spelling import labels
from lucidlm.trace.operations.base import Values, Worked
from lucidlm.trace.operations.working import terms_of


def cell(values: Values, position: int | None = None) -> Worked:
    """The token at `position`. A token that the text did not give (a start token, what was
    generated) has no arithmetic, and neither have stages without positions.
    """
    ids = values.read("tokenizer.ids")
    if position is None or position >= len(ids) or ids[position] is None:
        note = None if position is None else ("explain.no_token", {"position": position})
        nothing = terms_of([], addresses=lambda i: ("",))
        return Worked(
            terms=nothing, total=math.nan, expression="", program="", arrays={}, note=note
        )
    id = int(ids[position])
    spelled = [data or b"" for data in values.read("tokenizer.bytes")]
    start, end = values.read("tokenizer.spans")[position]
    found: dict[str, object] = {
        "id": id,
        "label": labels(spelled)[position],
        "bytes": spelled[position].hex(" ").upper(),
        "start": start,
        "end": end,
        "text": values.read("tokenizer.text")[start:end],
    }
    return Worked(
        terms=terms_of(id, addresses=lambda i: ("",)),
        total=float(id),
        expression=str(id),
        program="value = id",
        arrays={"id": id},
        note=("explain.token", found),
    )

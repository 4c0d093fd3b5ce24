"""Every family that writes, against transformers' `generate`: greedy and beam ids, equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import Golden, golden
from shapes import WRITERS, marked

from lucidlm.generate import GenerationSettings, beam_search, complete

NEW = 12


class Bytes:
    """Ids as bytes, for models without a tokenizer."""

    lead_space = False

    def bytes_of(self, id: int) -> bytes:
        return bytes([id])

    def is_special(self, id: int) -> bool:
        return False


def theirs(case: Golden, row: int, **options: Any) -> list[int]:
    ids = case.ids[row : row + 1, :6] if case.source is None else case.source[row : row + 1]
    with torch.inference_mode():
        out = case.theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NEW,
            pad_token_id=2,
            eos_token_id=1,
            use_cache=False,  # theirs has too few slots for a decoder deeper than its encoder
            **options,
        )
    return out[0, ids.shape[1] if case.source is None else 1 :].tolist()


def prompts(case: Golden) -> tuple[list[list[int]], list[list[int]] | None]:
    if case.source is None:
        return case.ids[:, :6].tolist(), None
    start = case.theirs.config.decoder_start_token_id
    return [[start], [start]], case.source.tolist()


@pytest.mark.parametrize(("family", "shape"), WRITERS)
def test_greedy(family: str, shape: str) -> None:
    case = golden(family, shape)
    rows, sources = prompts(case)
    settings = GenerationSettings(max_new_tokens=NEW, end=frozenset({1}))
    found = complete(case.engine(), rows, settings, decoder=Bytes(), sources=sources)
    for row, completion in enumerate(found):
        assert list(completion.ids) == theirs(case, row)


@pytest.mark.parametrize(("family", "shape"), marked(WRITERS))
@pytest.mark.parametrize("beams", [2, 4])
def test_beams(family: str, shape: str, beams: int) -> None:
    case = golden(family, shape)
    rows, sources = prompts(case)
    settings = GenerationSettings(
        max_new_tokens=NEW, end=frozenset({1}), beams=beams, length_penalty=0.8
    )
    found = beam_search(case.engine(), rows, settings, decoder=Bytes(), sources=sources)
    for row, hypotheses in enumerate(found):
        wanted = theirs(case, row, num_beams=beams, length_penalty=0.8)
        assert list(hypotheses[0].ids) == wanted

"""Greedy and beam search, batches of unequal rows, against transformers on tiny random models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from engines import ToyCache, ToyEngine, letters

from lucidlm.engine import Floats, ForwardContext, Ids
from lucidlm.generate import (
    GenerationSettings,
    SamplingSettings,
    beam_search,
    complete,
    fill,
    score,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB, END, PAD = 14, 1, 0
END_BIAS = 2.5  # so that answers end in many places


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class HuggingFace(ToyEngine):
    """A transformers model as an engine, without a cache: it reads every row anew."""

    def __init__(self, model: Any) -> None:
        self.model = model
        super().__init__(VOCAB, 64)

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        assert isinstance(ctx.cache, ToyCache)
        ctx.cache.memory = [list(row) for row in ids]
        return np.zeros((len(ids), 1, 1), np.float32)

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        cache = ctx.cache if isinstance(ctx.cache, ToyCache) else self.cache(len(ids))
        alike: dict[Any, list[int]] = defaultdict(list)  # rows that can share a pass unpadded
        for r, (new, row) in enumerate(zip(ids, cache.rows, strict=True)):
            row.extend(new)
            alike[len(row), len(new), *(cache.memory[r] if cache.memory else ())].append(r)
        found: list[Any] = [None] * len(ids)
        for (_, count, *source), group in alike.items():
            rows = torch.tensor([cache.rows[r] for r in group])
            inputs = {"input_ids": rows}
            if source:
                sources = torch.tensor([source] * len(group))
                inputs = {"input_ids": sources, "decoder_input_ids": rows}
            with torch.no_grad():
                logits = self.model(**inputs).logits.numpy()
            for r, values in zip(group, logits, strict=True):
                found[r] = values[-count:] if ctx.every_position else values[-1]
        return self._padded(found) if ctx.every_position else np.stack(found)


def model(kind: str, seed: int) -> Any:
    torch.manual_seed(seed)
    common = {"vocab_size": VOCAB, "eos_token_id": END, "pad_token_id": PAD, "bos_token_id": 2}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, **common)
        built = transformers.GPT2LMHeadModel(config)
    elif kind == "t5":
        sizes = {"num_layers": 2, "d_model": 32, "d_ff": 32, "num_heads": 2, "d_kv": 16}
        config = transformers.T5Config(decoder_start_token_id=PAD, **sizes, **common)
        built = transformers.T5ForConditionalGeneration(config)
    else:
        sizes = {
            f"{s}_{n}": 2 for s in ("encoder", "decoder") for n in ("layers", "attention_heads")
        }
        sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 32}
        config = transformers.MarianConfig(
            max_position_embeddings=64,
            decoder_start_token_id=PAD,
            forced_eos_token_id=None,
            **sizes,
            **common,
        )
        built = transformers.MarianMTModel(config)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return built.eval()


def theirs(built: Any, rows: list[list[int]], **options: Any) -> list[list[int]]:
    """transformers' generated ids, rows padded on the left (decoder) or right (encoder)."""
    options.setdefault("sequence_bias", {(END,): END_BIAS})
    longest = max(map(len, rows))
    encoder = built.config.is_encoder_decoder
    padded, mask = [], []
    for row in rows:
        pad = [PAD] * (longest - len(row))
        padded.append([*row, *pad] if encoder else [*pad, *row])
        ones, zeros = [1] * len(row), [0] * len(pad)
        mask.append([*ones, *zeros] if encoder else [*zeros, *ones])
    found = built.generate(
        torch.tensor(padded),
        attention_mask=torch.tensor(mask),
        do_sample=False,
        max_length=None,
        **options,
    )
    start = 1 if encoder else longest
    return [without_padding(row[start:].tolist()) for row in found]


def without_padding(ids: list[int]) -> list[int]:
    """Up to and with the end token; PAD is never generated here before it."""
    return ids[: ids.index(END) + 1] if END in ids else ids


def inputs(built: Any, rows: list[list[int]]) -> tuple[list[list[int]], list[list[int]] | None]:
    return ([[PAD]] * len(rows), rows) if built.config.is_encoder_decoder else (rows, None)


def settings(**more: Any) -> GenerationSettings:
    sampling = SamplingSettings(suppressed=frozenset({PAD}), logit_bias={END: END_BIAS})
    return GenerationSettings(end=frozenset({END}), sampling=sampling, **more)


ROWS = [[5, 6, 7, 8, 3], [9, 4], [3, 3, 11, 12, 13, 10, 2, 8]]


@pytest.mark.parametrize("kind", ["gpt2", "marian", "t5"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_batch_equals_transformers(kind: str, seed: int) -> None:
    built = model(kind, seed)
    prompts, sources = inputs(built, ROWS)
    expected = theirs(built, ROWS, max_new_tokens=12, suppress_tokens=[PAD])
    found = complete(
        HuggingFace(built),
        prompts,
        settings(max_new_tokens=12),
        decoder=letters(VOCAB),
        sources=sources,
    )
    assert [list(c.ids) for c in found] == expected


@pytest.mark.parametrize("kind", ["gpt2", "marian", "t5"])
@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize(("penalty", "beams"), [(1.0, 4), (0.0, 2), (2.0, 3), (-0.7, 4)])
def test_beams_equal_transformers(kind: str, early: Any, penalty: float, beams: int) -> None:
    ends = total = 0
    for seed in range(2):
        built = model(kind, seed)
        prompts, sources = inputs(built, ROWS)
        expected = theirs(
            built,
            ROWS,
            max_new_tokens=9,
            num_beams=beams,
            num_return_sequences=beams,
            length_penalty=penalty,
            early_stopping=early,
            suppress_tokens=[PAD],
        )
        found = beam_search(
            HuggingFace(built),
            prompts,
            settings(max_new_tokens=9, beams=beams, length_penalty=penalty, early_stopping=early),
            decoder=letters(VOCAB),
            sources=sources,
        )
        flat = [list(h.ids) for row in found for h in row]
        assert flat == expected
        ends += sum(END in ids for ids in flat)
        total += len(flat)
    assert total / 6 < ends, "the end token must matter for the comparison to mean something"


@pytest.mark.parametrize("kind", ["gpt2", "marian"])
def test_beam_scores_and_processors_equal_transformers(kind: str) -> None:
    built = model(kind, 5)
    row = ROWS[0]
    prompts, sources = inputs(built, [row])
    options = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.8}
    forced = {"forced_bos_token_id": 6} if sources else {}
    found = built.generate(
        torch.tensor([row]),
        attention_mask=torch.ones(1, len(row), dtype=torch.long),
        do_sample=False,
        max_length=None,
        max_new_tokens=8,
        repetition_penalty=1.3,
        suppress_tokens=[PAD, 4],
        return_dict_in_generate=True,
        output_scores=True,
        **options,
        **forced,
    )
    sampling = SamplingSettings(repetition_penalty=1.3, suppressed=frozenset({PAD, 4}))
    ours = beam_search(
        HuggingFace(built),
        prompts,
        GenerationSettings(
            max_new_tokens=8,
            beams=3,
            length_penalty=0.8,
            end=frozenset({END}),
            sampling=sampling,
            forced_bos=6 if sources else None,
        ),
        decoder=letters(VOCAB),
        sources=sources,
    )[0]
    start = 1 if sources else len(row)
    expected = [without_padding(ids[start:].tolist()) for ids in found.sequences]
    assert [list(h.ids) for h in ours] == expected
    assert [h.score for h in ours] == pytest.approx(found.sequences_scores.tolist(), rel=1e-5)
    for h in ours:
        assert h.score == pytest.approx(h.log_probability / len(h.ids) ** 0.8)


def test_several_end_tokens_equal_transformers() -> None:
    for seed in range(5):
        built = model("gpt2", seed)
        expected = theirs(
            built,
            ROWS,
            max_new_tokens=9,
            num_beams=3,
            eos_token_id=[END, 7, 9],
            sequence_bias=None,
            suppress_tokens=[PAD],
        )
        chosen = GenerationSettings(
            end=frozenset({END, 7, 9}),
            sampling=SamplingSettings(suppressed=frozenset({PAD})),
            beams=3,
            max_new_tokens=9,
        )
        found = complete(HuggingFace(built), ROWS, chosen, decoder=letters(VOCAB))
        for ours, ids in zip(found, expected, strict=True):
            assert list(ours.ids) == ids[: len(ours.ids)]
            assert set(ids[len(ours.ids) :]) <= {PAD, END}  # their padding


def test_fill_equals_transformers() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    built = transformers.BertForMaskedLM(config).eval()
    row = [2, 13, 5, 13, 6]
    with torch.no_grad():
        expected = built(torch.tensor([row])).logits[0].double().softmax(-1).numpy()
    found = fill(HuggingFace(built), row, mask_id=13, top=3)
    assert [f.position for f in found] == [1, 3]
    for f in found:
        order = np.argsort(-expected[f.position])[:3]
        assert [id for id, _ in f.candidates] == order.tolist()
        probabilities = [p for _, p in f.candidates]
        assert probabilities == pytest.approx(expected[f.position][order], rel=1e-6)


def test_score_equals_transformers_loss() -> None:
    built = model("gpt2", 1)
    row = np.random.default_rng(0).integers(0, VOCAB, 40).tolist()
    with torch.no_grad():
        loss = built(torch.tensor([row]), labels=torch.tensor([row])).loss.item()
    assert score(HuggingFace(built), row).perplexity == pytest.approx(np.exp(loss), rel=1e-5)

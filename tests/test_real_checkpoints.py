"""Real models: the same words as transformers on the same files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import lucidlm
from lucidlm.api import Model
from lucidlm.checkpoint.load import resolve
from lucidlm.engine import ForwardContext
from lucidlm.generate import GenerationSettings, complete

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "To make a cup of tea, first",
    "def fibonacci(n):",
    "Water boils at",
    "The three primary colours are",
    "In 1969, astronauts",
    "My favourite book is",
    "The opposite of hot is",
    "Photosynthesis is the process by which",
    "1, 2, 3, 4,",
    "Dear Sir or Madam,",
    "The quick brown fox",
    "A good night's sleep",
    "Machine learning is",
    "我很开心，因为",
    "The recipe needs flour, sugar and",
    "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
    "Yesterday, all my",
    "Q: What is 2 + 2?\nA:",
]
NEW = 64


@pytest.fixture(scope="module")
def smollm() -> Model:
    return lucidlm.load("smollm2-135m", engine="torch")


@pytest.fixture(scope="module")
def their_smollm() -> tuple[Any, Any]:
    path = resolve("smollm2-135m")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their reader copies read-only arrays, and says so
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return model.eval(), tokenizer


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.slow
def test_smollm_says_the_same_words(smollm: Model, their_smollm: tuple[Any, Any]) -> None:
    """Greedy ids of 20 prompts, 64 tokens each. Where two logits are as good as equal, either may
    come first: such a tie is shown, and only what precedes it must be equal."""
    model, tokenizer = their_smollm
    settings = GenerationSettings(max_new_tokens=NEW)
    ties = 0
    for prompt in PROMPTS:
        ids = smollm.tokenizer.encode(prompt)
        assert ids == tokenizer(prompt)["input_ids"]
        ours = list(complete(smollm.engine, [ids], settings, decoder=smollm.tokenizer)[0].ids)
        # greedy ids are equal when each is their first choice behind those before it: one pass
        with torch.inference_mode():
            logits = model(torch.tensor([ids + ours])).logits[0, len(ids) - 1 : -1]
        theirs = logits.argmax(-1).tolist()
        if ours != theirs:
            at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
            gap = logits[at, theirs[at]] - logits[at, ours[at]]
            print(f"{prompt!r}: tie at token {at}, {ours[at]} or {theirs[at]}, gap {gap:.1e}")
            assert gap < 1e-5 * logits[at].abs().max(), prompt
            ties += 1
    assert ties <= 2


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.slow
def test_smollm_logits(smollm: Model, their_smollm: tuple[Any, Any]) -> None:
    ids = smollm.tokenizer.encode("".join(PROMPTS))[:256]
    ours = smollm.engine.step([ids], ForwardContext(every_position=True))[0]
    with torch.inference_mode():
        theirs = their_smollm[0](torch.tensor([ids])).logits[0].numpy()
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.slow
def test_smollm_chats(smollm: Model) -> None:
    answer = smollm.chat(
        [{"role": "user", "content": "What is the capital of France?"}], max_new_tokens=30
    )
    assert "Paris" in answer.text and answer.stop_reason == "end"


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.slow
def test_in_float32_the_native_engine_says_the_same_words(smollm: Model) -> None:
    """Greedy, 20 prompts of 128 tokens, each the readable model's first choice but at ties."""
    pytest.importorskip("lucidlm.backends._native")
    from lucidlm.backends.native.engine import NativeEngine

    assert smollm.checkpoint is not None
    native = NativeEngine(smollm.checkpoint.config, smollm.checkpoint.stored(("F32",)))
    settings = GenerationSettings(max_new_tokens=128)
    for prompt in PROMPTS:
        ids = smollm.tokenizer.encode(prompt)
        ours = list(complete(native, [ids], settings, decoder=smollm.tokenizer)[0].ids)
        ctx = ForwardContext(every_position=True)
        logits = smollm.engine.step([ids + ours], ctx)[0, len(ids) - 1 : -1]
        chosen = logits[np.arange(len(ours)), ours]
        assert (logits.max(-1) - chosen <= 1e-5 * np.abs(logits).max()).all(), prompt


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.slow
def test_what_is_rounded_costs_little(smollm: Model) -> None:
    """The native engine rounds activations to 8 bits beside this file's weights: a page of text is
    as likely to it as to the readable model, to two hundredths of a nat a token.
    """
    pytest.importorskip("lucidlm.backends._native")
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")[:4000]
    native = lucidlm.load("smollm2-135m", engine="native")
    ours, theirs = (model.score(text).nll.mean() for model in (native, smollm))
    assert abs(ours - theirs) < 0.02


@pytest.mark.checkpoint("minilm-l6")
@pytest.mark.slow
def test_minilm_vectors() -> None:
    texts = [
        "A cat sat on the mat.",
        "世界上最高的山峰是哪座？",
        "The stock market fell sharply on Monday, and nobody could say why.",
        "café naïve 🙂",
        "x",
    ]
    model = lucidlm.load("minilm-l6")
    folder = resolve("minilm-l6")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    ours = model.embed(texts)
    assert ((ours * pooled).sum(-1) > 0.99999).all()
    assert np.abs(ours - pooled).max() < 1e-5
    np.testing.assert_allclose(model.embed(texts[0]), ours[0], atol=1e-6)


@pytest.mark.checkpoint("gemma3-270m")
@pytest.mark.slow
def test_gemma_knows_the_word() -> None:
    model = lucidlm.load("gemma3-270m")
    answer = model.generate("今天是我的生日，我很", max_new_tokens=3)
    assert answer.text.startswith("开心")
    assert model.template is not None and model.template.is_plain  # a base model: no template

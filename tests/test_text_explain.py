"""The explanation ends in exactly the library's ids, for every kind of tokenizer and any text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lucidlm.errors import TokenizerError
from lucidlm.home import models_home
from lucidlm.text.builtin import KINDS, builtin, corpus
from lucidlm.text.cache import tokenizer_from_gguf
from lucidlm.text.explain import TextExplanation, explain
from lucidlm.text.folder import load_tokenizer
from lucidlm.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, SentencePiece, build
from lucidlm.text.spelling import labels
from lucidlm.text.steps import Lattice, LongestMatch, Lookup, Merges
from lucidlm.text.tokenizer import Specials, Tokenizer
from lucidlm.text.train import train_tokenizer
from lucidlm.text.watch import Change

TEXTS = (
    st.text()
    | st.text(alphabet="我很开心今天好，。？ \n", max_size=30)
    | st.text(alphabet="the happest 'dont.,!  12", max_size=40)
    | st.text(alphabet="ae\u0301\u0308\u200d\u0e33ﬁ①Å👩💻🏽가각", max_size=20)
    | st.lists(st.sampled_from(corpus()), max_size=2).map("\n".join)
    | st.lists(st.sampled_from(["<|endoftext|>", "[MASK]", "</s>", "<unk>", " a", "好"])).map(
        "".join
    )
)
TRAINED = ("bpe", "bpe-char", "wordpiece", "unigram", "char")


@cache
def tokenizer(name: str) -> Tokenizer:
    """A tokenizer by kind: small ones trained here, the shipped ones, and some of rarer build."""
    if name.startswith("shipped "):
        return builtin(name.removeprefix("shipped "))
    if name in TRAINED:
        return train_tokenizer(name, corpus()[::5], 600)
    return _rare(name)


def _rare(name: str) -> Tokenizer:
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    if name == "sentencepiece bpe":
        return Tokenizer(build(sentencepiece_bpe()), Specials(unk=0))
    if name == "llama3 style":  # whole words without merging, split by a pattern
        backend = Backend.from_str(tokenizer("bpe").backend.to_str())
        backend.model.ignore_merges = True
        split = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}{1,3}|\s+|[^\s\p{L}\p{N}]+"), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        backend.add_tokens(
            [AddedToken("今天", normalized=False), AddedToken("  ", normalized=False)]
        )
        return Tokenizer(backend)
    if name == "clip style":  # lower case, a mark at the end of words, a space in front
        letters = "abcdehinopst'., 我"
        vocab = {
            symbol: id
            for id, symbol in enumerate([*letters, *(f"{c}</w>" for c in letters), "th", "the</w>"])
        }
        model = models.BPE(
            vocab, [("t", "h"), ("th", "e</w>")], unk_token="a", end_of_word_suffix="</w>"
        )
        backend = Backend(model)
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        backend.add_tokens([AddedToken("Happy", normalized=True, single_word=True, lstrip=True)])
        return Tokenizer(backend)
    assert name == "prefixed bpe"
    vocab = {
        s: id
        for id, s in enumerate(
            ["<unk>", "a", "t", "h", "##a", "##t", "##h", "##e", "t##h", "th", "the"]
        )
    }
    merges = [("t", "##h"), ("th", "##e")]
    backend = Backend(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=False, continuing_subword_prefix="##")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    return Tokenizer(backend)


def sentencepiece_bpe() -> SentencePiece:
    """BPE of SentencePiece's kind with bytes for what is unknown, over a handful of pieces."""
    normal = [
        "▁t",
        "he",
        "▁the",
        "in",
        "▁a",
        "今天",
        "天",
        "今",
        "好",
        "▁",
        *"abcdehinopst'.,!我很",
    ]
    byte = [f"<0x{n:02X}>" for n in range(256)]
    return SentencePiece(
        kind="bpe",
        pieces=["<unk>", "<s>", "</s>", *byte, *normal],
        scores=[0.0] * 259 + [-float(n) for n in range(len(normal))],
        types=[UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(normal),
        remove_extra_whitespaces=False,
        byte_fallback=True,
        unk=0,
    )


RARE = ("sentencepiece bpe", "llama3 style", "clip style", "prefixed bpe")


@pytest.mark.parametrize("name", [*TRAINED, *(f"shipped {kind}" for kind in KINDS), *RARE])
@settings(max_examples=60)
@given(text=TEXTS)
@example(text="")
@example(text="今天天气很好，我想去爬山 Happy Happy,unHappy the 12")
@example(text="世界上最高的山峰是哪座? e\u0301 ﬁ 👩🏽‍💻 \u200b\x00\ufeff")
def test_ends_in_the_librarys_ids(name: str, text: str) -> None:
    check(tokenizer(name), text)


def check(tokenizer: Tokenizer, text: str) -> None:
    """All laws of an explanation."""
    found = explain(tokenizer, text)
    library = tokenizer.backend.encode(text, add_special_tokens=False)
    assert list(found.ids) == library.ids
    assert [p.text for p in found.pieces] == [
        tokenizer.backend.id_to_token(id) for id in library.ids
    ]
    assert applied(text, found.changes) == found.normalized
    for pretoken in found.pretokens:
        assert pretoken.text == text[pretoken.start : pretoken.end]
        check_steps(tokenizer, pretoken.spelled, pretoken.steps)
    for piece, (start, end) in zip(found.pieces, library.offsets, strict=True):
        assert 0 <= piece.start <= start and end <= piece.end <= len(
            text
        )  # the library's may be trimmed
        assert "\ufffd" not in piece.label or "\ufffd" in text
    check_bytes(tokenizer, found)


def check_steps(tokenizer: Tokenizer, spelled: str, steps: object) -> None:
    pieces = [tokenizer.backend.id_to_token(id) for id in steps.ids]  # type: ignore[attr-defined]
    if isinstance(steps, Merges):
        states = list(steps.states())
        assert len(states) == len(steps.merges) + 1
        assert [len(state) for state in states] == list(
            range(len(steps.start), len(pieces) - 1, -1)
        )
        assert list(states[-1]) == pieces
    elif isinstance(steps, Lattice):
        best = steps.best
        assert best.score == pytest.approx(sum(edge.score for edge in best.edges))
        assert "".join(edge.piece for edge in best.edges) == spelled
        if steps.runner_up is not None:
            assert "".join(edge.piece for edge in steps.runner_up.edges) == spelled
            assert steps.runner_up.score <= best.score and steps.runner_up.edges != best.edges
        assert set(best.edges) <= set(steps.edges)
    elif isinstance(steps, LongestMatch):
        hits = [found.piece for found in steps.tries if found.found]
        assert steps.unknown or hits == pieces
    else:
        assert isinstance(steps, Lookup) and len(pieces) == 1


def check_bytes(tokenizer: Tokenizer, found: TextExplanation) -> None:
    assert found.bytes == tuple(tokenizer.own_bytes(id) for id in found.ids)
    assert [piece.label for piece in found.pieces] == labels(found.bytes)


def applied(text: str, changes: tuple[Change, ...]) -> str:
    """`text` with the changes made."""
    parts, done = [], 0
    for change in changes:
        assert change.start >= done and change.before == text[change.start : change.end]
        parts += [text[done : change.start], change.after]
        done = change.end
    return "".join([*parts, text[done:]])


def test_a_third_of_a_character() -> None:
    bytes_only = train_tokenizer("bpe", ["x"], 257)
    assert [piece.label for piece in explain(bytes_only, "好a").pieces] == [
        "好 1/3 (E5)",
        "好 2/3 (A5)",
        "好 3/3 (BD)",
        "a",
    ]
    assert [(piece.start, piece.end) for piece in explain(bytes_only, "好a").pieces] == [
        (0, 1)
    ] * 3 + [(1, 2)]
    assert labels([b" \xe5", b"\xa5\xbd!", b"\xff"]) == [
        "  + 好 1/3 (E5)",
        "好 2-3/3 (A5 BD) + !",
        "\\xFF",
    ]


def test_which_merge_fired_when() -> None:
    steps = explain(tokenizer("sentencepiece bpe"), "the").pretokens[0].steps
    assert isinstance(steps, Merges)
    assert list(steps.states()) == [("▁", "t", "h", "e"), ("▁t", "h", "e"), ("▁t", "he"), ("▁the",)]
    assert [merge.rank for merge in steps.merges] == sorted(merge.rank for merge in steps.merges)


def test_what_normalising_changed() -> None:
    changes = explain(builtin("wordpiece"), "Café ok").changes
    assert Change("C", "c", 0, 1) in changes and any(change.before == "é" for change in changes)


def test_runner_up_is_the_second_best_of_all() -> None:
    steps = explain(builtin("unigram"), "happiness").pretokens[0].steps
    assert isinstance(steps, Lattice) and steps.runner_up is not None
    scores = sorted(totals(steps, 0, len("▁happiness")), reverse=True)
    assert scores[0] == pytest.approx(steps.best.score)
    assert scores[1] == pytest.approx(steps.runner_up.score)


def totals(lattice: Lattice, start: int, end: int) -> list[float]:
    """The scores of all paths, by trying every one."""
    if start == end:
        return [0.0]
    edges = [edge for edge in lattice.edges if edge.start == start]
    return [edge.score + rest for edge in edges for rest in totals(lattice, edge.end, end)]


def test_text_that_is_no_text() -> None:
    with pytest.raises(TokenizerError, match="character 1"):
        explain(builtin("bpe"), "a\ud800")


@pytest.mark.checkpoint("minilm-l6")
@settings(max_examples=60)
@given(text=TEXTS)
def test_real_wordpiece(text: str) -> None:
    check(_real("minilm-l6"), text)


@pytest.mark.checkpoint("smollm2-135m")
@settings(max_examples=60)
@given(text=TEXTS)
def test_real_byte_level_bpe(text: str) -> None:
    check(_real("smollm2-135m"), text)


@pytest.mark.slow
@pytest.mark.checkpoint("gemma3-270m")
@settings(max_examples=60)
@given(text=TEXTS)
def test_real_sentencepiece_bpe(text: str) -> None:
    check(_real("gemma3-270m"), text)


@cache
def _real(name: str) -> Tokenizer:
    from lucidlm.checkpoint.gguf import open_gguf

    folder = models_home() / name
    if (folder / "tokenizer.json").exists():
        return load_tokenizer(folder)
    return tokenizer_from_gguf(open_gguf(next(folder.glob("*.gguf"))).metadata, None)

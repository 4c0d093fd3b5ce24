"""Models set by hand: written and read back, and the lessons' figures on the real engine."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

import lucidlm
from lucidlm.checkpoint.handmade import complete, write_handmade
from lucidlm.errors import CheckpointError, LucidError, TokenizerError, UnknownName
from lucidlm.lessons.encoder_decoder import model as translator
from lucidlm.lessons.encoder_decoder.lesson import sides
from lucidlm.lessons.one_word import model as hand
from lucidlm.lessons.one_word.lesson import at_the_slot, best_temperature, fill_slots
from lucidlm.lessons.running import opened, watched
from lucidlm.lessons.shelf import code
from lucidlm.lessons.telling import tell
from lucidlm.parameters import parameters
from lucidlm.text.explain import explain
from lucidlm.text.folder import load_tokenizer, save_tokenizer
from lucidlm.text.listed import listed_tokenizer

KNOWN = [0, 1, 2]  # <SOS> 我 很
SPOKEN = "<SOS> 我 很 开心 <EOS>".split()

# what is true, to as many digits as are given
TRUE = hand.ARTICLE | {"probabilities": (0.0319, 0.1060, 0.0643, 0.7834, 0.0143)}
PLAIN = {
    "attention_norm": (-0.3397, 1.3587, -1.0190),
    "feedforward_norm": (0.7071, -1.4142, 0.7071),
}


@pytest.fixture(scope="module")
def strict() -> lucidlm.Model:
    return opened(partial(hand.write, mask="strict"))


@pytest.fixture(scope="module")
def causal() -> lucidlm.Model:
    return opened(hand.write)


@pytest.fixture(scope="module")
def two() -> lucidlm.Model:
    return opened(translator.write)


# -- the checkpoint -------------------------------------------------------------------------------


def test_the_folder_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    hand.write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    model = lucidlm.load(str(tmp_path))
    assert model.config == hand.config("causal") and model.end == {4}
    assert model.tokenizer.encode("我很") == KNOWN
    assert model.generate("我很").text == "开心"
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("我很开心<EOS>").ids == [0, 1, 2, 3, 4]
    assert theirs.decode([1, 2, 3]) == "我很开心"


def test_what_is_not_given_is_zero_and_a_norm_one() -> None:
    config, given = hand.config("causal"), hand.weights()
    whole = complete(config, given)
    assert {at: value.shape for at, value in whole.items()} == parameters(config)
    for address, value in whole.items():
        if address in given:
            np.testing.assert_array_equal(value, given[address])
        else:
            assert (value == float("norm" in address and address.endswith("weight"))).all()


@pytest.mark.parametrize(
    ("weights", "words", "error"),
    [
        ({"layers.0.attention.quary.weight": np.eye(3)}, SPOKEN, UnknownName),
        ({"layers.1.attention.query.weight": np.eye(3)}, SPOKEN, UnknownName),
        ({"layers.0.attention.query.weight": np.eye(2)}, SPOKEN, CheckpointError),
        ({"head.bias": 1.0}, SPOKEN, CheckpointError),
        ({}, [*SPOKEN, "他"], TokenizerError),
        ({}, ["<SOS>", "我", "我", "<EOS>"], TokenizerError),
        ({}, ["<SOS>", "", "<EOS>"], TokenizerError),
        ({}, ["<SOS>", "我"], TokenizerError),
        ({}, [*SPOKEN, *map(str, range(3000))], TokenizerError),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    weights: dict[str, Any], words: list[str], error: type[LucidError], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    with pytest.raises(error) as caught:
        write_handmade(folder, hand.config("causal"), weights, words, start="<SOS>", end="<EOS>")
    assert str(caught.value) and caught.value.message("zh") and not folder.exists()


def test_a_listed_vocabulary_cuts_the_longest_word(tmp_path: Path) -> None:
    words = ["<s>", "</s>", "a", "ab", "abc", " ab", "开", "开心", "a+", "(a+)+"]
    tokenizer = listed_tokenizer(words, start="<s>", end="</s>", ends=True)
    assert tokenizer.encode("abcab ab开心开") == [0, 4, 3, 5, 7, 6, 1]
    assert tokenizer.decode([4, 3, 5, 7, 6]) == "abcab ab开心开"
    assert explain(tokenizer, "abab").ids == (3, 3)
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path).encode("a+a(a+)+", special=False) == [8, 2, 9]
    with pytest.raises(TokenizerError):
        tokenizer.encode("abx")
    longest = "ab" * 5000
    assert tokenizer.encode(longest, special=False) == [3] * 5000


# -- one word -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["strict", "causal"])
def test_every_figure_of_the_article(
    reading: str, strict: lucidlm.Model, causal: lucidlm.Model
) -> None:
    """At the empty slot under a strict mask, and at the last known one under a causal mask."""
    model = strict if reading == "strict" else causal
    seen = watched(model, [*KNOWN, hand.BLANK] if reading == "strict" else KNOWN)
    found = at_the_slot(seen)
    if reading == "causal":  # here the slot sees itself
        found["pattern"] = seen["layers.0.attention.pattern"][0, -1]
    assert found.keys() == TRUE.keys()
    for name, figure in TRUE.items():
        digits = 5e-5 if name == "probabilities" else 1e-6
        np.testing.assert_allclose(found[name], figure, atol=digits, rtol=0, err_msg=name)
    for norm, figure in PLAIN.items():
        plain = seen[f"layers.0.{norm}.residual.normalized"][-1]
        np.testing.assert_allclose(plain, figure, atol=5e-5)


def test_both_readings_run_to_the_end(strict: lucidlm.Model, causal: lucidlm.Model) -> None:
    filled = list(fill_slots(strict))
    assert [hand.WORDS[one.chosen] for one in filled] == SPOKEN[1:]
    assert [one.known for one in filled] == [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]
    seen = watched(causal, [0, 1, 2, 3])["head.logits"]
    for one, logits in zip(filled, seen, strict=True):
        shares = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(one.probabilities, shares, atol=1e-6)
        assert shares.argmax() == one.chosen and shares.max() > 0.75
    assert causal.generate("我").ids == (2, 3, 4) and causal.generate("我").stop_reason == "end"


def test_a_row_that_sees_nothing_takes_nothing(strict: lucidlm.Model) -> None:
    seen = watched(strict, KNOWN)
    assert not seen["layers.0.attention.pattern"][0, 0].any()
    assert not seen["layers.0.attention.mixed"][0].any()


def test_no_temperature_makes_the_article_s_probabilities() -> None:
    logits, wanted = (np.array(hand.ARTICLE[name]) for name in ("logits", "probabilities"))
    assert best_temperature(logits, wanted) == pytest.approx(1.38, abs=0.005)
    for temperature in np.geomspace(0.01, 1000, 50):
        powers = np.exp((logits - logits.max()) / temperature)
        first, last = powers[[0, -1]] / powers.sum()
        assert not (abs(first - 0.05) < 1e-3 and abs(last - 0.05) < 1e-3)


def test_the_lesson_tells_them() -> None:
    told = tell("one-word", "en").to_json()
    figures = {tuple(np.ravel(row["article"])): row["true"] for row in told["figures"]}
    for name in ("norm", "norm_again"):
        stage = "attention_norm" if name == "norm" else "feedforward_norm"
        np.testing.assert_allclose(figures[hand.ARTICLE[name]], PLAIN[stage], atol=5e-5)
    shares = figures[hand.ARTICLE["probabilities"]]
    np.testing.assert_allclose(shares, TRUE["probabilities"], atol=5e-5)
    values = {name: value for beat in told["beats"] for name, value in beat["values"].items()}
    assert values["sentence"] == values["generated"] == " ".join(SPOKEN)
    assert values["difference"] < 1e-6


# -- an encoder-decoder ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("我爱你", ["i", " love", " you", ".", "<EOS>"]),
        ("你爱我", [" you", " love", "i", ".", "<EOS>"]),
        ("我", ["i", ".", "<EOS>"]),
    ],
)
def test_it_translates(source: str, said: list[str], two: lucidlm.Model) -> None:
    text = two.translate(source)
    assert [translator.WORDS[id] for id in text.ids] == said and text.stop_reason == "end"
    assert two.tokenizer.encode(source)[-1] == translator.WORDS.index("<EOS>")


def test_q_is_the_decoder_s_and_k_and_v_the_encoder_s(two: lucidlm.Model) -> None:
    source = two.tokenizer.encode("我爱你")
    apart = sides(two, watched(two, [0, 5, 6], source))
    assert apart["query"][0] < 1e-9 < 1 < apart["query"][1]
    for name in ("key", "value"):
        assert apart[name][1] < 1e-9 < 0.5 < apart[name][0]


# -- scripts, and no PyTorch ----------------------------------------------------------------------


def test_the_scripts_grow_from_each_other_and_compute_what_the_engine_does(
    causal: lucidlm.Model, two: lucidlm.Model
) -> None:
    head, layer, decoder = (_names(name) for name in ("one-head", "one-layer", "one-word"))
    for one, next_ in ((head, layer), (layer, decoder)):
        assert {name for name in one if callable(one[name])} <= set(next_)
    seen = watched(causal, KNOWN)
    np.testing.assert_allclose(head["weights"], seen["layers.0.attention.pattern"][0], atol=1e-9)
    np.testing.assert_allclose(
        layer["layer"](layer["x"], layer["aimed"](layer["x"])),
        seen["layers.0.residual_out"],
        atol=1e-9,
    )
    found = decoder["decoder"](KNOWN, decoder["w"])
    np.testing.assert_allclose(found, seen["head.logits"], atol=1e-9)
    assert [decoder["WORDS"][id] for id in decoder["ids"]] == SPOKEN

    both = _names("encoder-decoder")
    said = [0, 5, 6, 7, 8]
    assert both["ids"] == [*said, 1]
    seen = watched(two, said, two.tokenizer.encode("我爱你"))
    found = both["decoder"](said, both["memory"])
    np.testing.assert_allclose(found, seen["head.logits"], atol=1e-3)  # its norms have no eps


def _names(name: str) -> dict[str, Any]:
    """What a lesson's script leaves behind when it has run."""
    found: dict[str, Any] = {}
    exec(compile(code(name), name, "exec"), found)
    return found


def test_all_of_it_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from lucidlm.lessons.telling import tell\n"
        "for name in ('one-head', 'one-layer', 'one-word', 'encoder-decoder'):\n"
        "    for lang in ('en', 'zh'):\n"
        "        assert not [beat.needs for beat in tell(name, lang).beats if beat.needs]\n"
        "from scripts.make_lessons_docs import recorded, PATHS\n"
        "shown = PATHS['zh'].read_text(encoding='utf-8')\n"
        "assert recorded('one-word', 'zh') in shown\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=root
    )
    assert done.returncode == 0, done.stderr


def test_a_tokenizer_of_a_translator_has_no_start(tmp_path: Path) -> None:
    """The decoder begins by itself; what is typed is the source."""
    translator.write(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("我爱你") == [2, 3, 4, 1] and tokenizer.specials.bos is None
    assert tokenizer.encode("i love you.", special=False) == [5, 6, 7, 8]

"""The n-gram model against plain counting, an independent Kneser-Ney, and laws of probability."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucidlm.classical import NGram, dog
from lucidlm.classical.smoothing import FALLBACK, discounts
from lucidlm.classical.words import Words
from lucidlm.engine import Engine, ForwardContext
from lucidlm.errors import CheckpointError, LucidError, UnknownName
from lucidlm.generate import GenerationSettings, generate

SMOOTHINGS = ("none", "add-k", "kneser-ney")
LETTERS = Words(tuple("abcde"), split="character")


@st.composite
def texts(draw):
    """Sequences of five letters, and an order."""
    sequences = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=8)
    return draw(sequences.filter(any)), draw(st.integers(1, 5))


def occurrences(sequences, size):
    """Every run of `size` ids, counted the plain way."""
    runs = Counter()
    for row in sequences:
        runs.update(tuple(row[i : i + size]) for i in range(len(row) - size + 1))
    return runs


class PlainKneserNey:
    """The published recursion, one probability at a time, straight from the text."""

    def __init__(self, sequences, order, words):
        self.order, self.words = order, words
        marked = [[-1, *row] for row in sequences]  # a beginning is a predecessor like any other
        self.c = []
        for size in range(1, order + 1):
            if size == order:
                self.c.append(occurrences(sequences, size))
            else:
                kinds = {run for row in marked for run in occurrences([row], size + 1)}
                self.c.append(Counter(run[1:] for run in kinds))
        self.d = [self.discount(counts) for counts in self.c]

    @staticmethod
    def discount(counts):
        n = Counter(counts.values())
        fallback = lambda c: (0, 0.5, 1, 1.5)[min(c, 3)]  # noqa: E731
        if not all(n[i] for i in (1, 2, 3, 4)):
            return fallback
        y = n[1] / (n[1] + 2 * n[2])
        d = [0] + [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
        return (lambda c: d[min(c, 3)]) if all(0 <= d[i] <= i for i in (1, 2, 3)) else fallback

    def probability(self, word, context):
        context = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        lower = self.probability(word, context[1:]) if context else 1 / self.words
        c, d = self.c[len(context)], self.d[len(context)]
        followers = [c[(*context, v)] for v in range(self.words)]
        if not sum(followers):
            return lower
        held_back = sum(map(d, followers))
        mine = c[(*context, word)]
        return (mine - d(mine) + held_back * lower) / sum(followers)


@settings(deadline=None)
@given(texts(), st.lists(st.integers(0, 4), max_size=6))
def test_counts_are_those_of_plain_counting(text, context):
    sequences, order = text
    model = NGram.train(sequences, LETTERS, order, "none")
    last = tuple(context[-(order - 1) :]) if order > 1 else ()
    runs = occurrences(sequences, len(last) + 1)
    assert model.counts(context).tolist() == [runs[(*last, w)] for w in range(5)]


@settings(deadline=None)
@given(texts(), st.lists(st.integers(0, 4), max_size=6))
def test_kneser_ney_is_the_published_recursion(text, context):
    sequences, order = text
    plain = PlainKneserNey(sequences, order, 5)
    wanted = [plain.probability(word, context) for word in range(5)]
    got = NGram.train(sequences, LETTERS, order, "kneser-ney").probabilities(context)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_kneser_ney_estimates_discounts_where_there_is_enough_text():
    generator = np.random.default_rng(0)
    sequences = [(generator.zipf(1.5, 200) % 5).tolist() for _ in range(30)]
    model, plain = NGram.train(sequences, LETTERS, 5), PlainKneserNey(sequences, 5, 5)
    assert any(table is not FALLBACK for table in model._estimate.discounts)
    for context in ([], [1], [0, 1], [1, 1, 2], [1, 0, 1, 1], [4, 4, 4, 4]):
        wanted = [plain.probability(word, context) for word in range(5)]
        np.testing.assert_allclose(model.probabilities(context), wanted, rtol=1e-12)


def test_discounts_by_hand():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4 / 8
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])
    expected = [0, 1 - 2 * 0.5 * 2 / 4, 2 - 3 * 0.5 * 1 / 2, 3 - 4 * 0.5 * 1 / 1]
    np.testing.assert_allclose(discounts(counts), expected)
    assert discounts(np.array([1, 1, 2])) is FALLBACK


@settings(deadline=None)
@given(texts(), st.lists(st.integers(0, 4), max_size=6), st.sampled_from(SMOOTHINGS))
def test_probabilities_sum_to_one(text, context, smoothing):
    model = NGram.train(*text[:1], LETTERS, text[1], smoothing, k=0.3)
    p = model.probabilities(context)
    assert p.min() >= 0 and p.sum() == pytest.approx(1, abs=1e-12)
    assert smoothing == "none" or p.min() > 0


def test_add_k_is_its_formula_and_uniform_where_nothing_was_seen():
    model = NGram.train([[0, 1, 0, 1, 0, 2]], LETTERS, 2, "add-k", k=0.5)
    np.testing.assert_allclose(model.probabilities([0]), np.array([0.5, 2.5, 1.5, 0.5, 0.5]) / 5.5)
    assert model.probabilities([4]).tolist() == [0.2] * 5


def test_without_smoothing_an_unseen_context_is_shortened():
    model = NGram.train([[0, 1, 2], [3, 1, 4]], LETTERS, 3, "none")
    assert model.probabilities([0, 1]).tolist() == [0, 0, 1, 0, 0]
    assert model.probabilities([2, 1]).tolist() == model.probabilities([1]).tolist()
    assert model.probabilities([4]).tolist() == model.probabilities([]).tolist()


def test_no_ngram_reaches_from_one_sequence_into_the_next():
    model = NGram.train([[0, 1], [2, 3]], LETTERS, 2, "none")
    assert model.counts([1]).sum() == 0


# the dog's language ---------------------------------------------------------------------------


RAN = dog.WORDS.encode("我 刚才 跑步，我 现在")


def test_the_dogs_text_has_six_words_and_one_form():
    lines = dog.text().splitlines()
    acts = {"吃饭", "睡觉", "跑步"}
    for line in lines:
        first, second = line.split("，")
        assert first.split()[:2] == ["我", "刚才"] and second.split()[:2] == ["我", "现在"]
        assert {first.split()[2], second.split()[2]} <= acts
    after_running = Counter(line.split()[-1] for line in lines if "刚才 跑步" in line)
    assert after_running == {"吃饭": 6, "睡觉": 3, "跑步": 1}


def test_order_four_sees_the_running_and_orders_two_and_three_do_not():
    seen = dog.model(4)
    assert seen.counts(RAN).tolist() == [0, 0, 0, 6, 3, 1]
    assert seen.probabilities(RAN).tolist() == [0, 0, 0, 0.6, 0.3, 0.1]
    now = Counter(line.split()[-1] for line in dog.text().splitlines())
    overall = [now[word] / sum(now.values()) for word in dog.WORDS.words]
    for order in (2, 3):
        assert dog.model(order).probabilities(RAN).tolist() == overall
        assert int(np.argmax(overall)) != int(np.argmax(seen.probabilities(RAN)))


def test_the_loop_of_every_model_runs_it():
    engine: Engine = dog.model(4)
    answers = {
        word: next(
            generate(
                engine,
                [dog.WORDS.encode(f"我 刚才 {word}，我 现在")],
                GenerationSettings(max_new_tokens=1),
                decoder=dog.WORDS,
            )
        ).id
        for word in ("跑步", "吃饭", "睡觉")
    }
    said = {word: dog.WORDS.words[id] for word, id in answers.items()}
    assert said == {"跑步": "吃饭", "吃饭": "睡觉", "睡觉": "跑步"}


# the engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_steps_in_pieces_and_at_once_agree(smoothing):
    model = dog.model(3, smoothing)
    rows = [[0, 1, 5, 0, 2, 3], [0, 2, 4]]
    everything = model.step(rows, ForwardContext(every_position=True))
    assert everything.dtype == np.float32 and everything.shape == (2, 6, 6)
    assert (everything[1, 3:] == 0).all()
    cache = model.cache(2)
    first = model.step([[0], [0, 2]], ForwardContext(cache=cache))
    assert cache.lengths == [1, 2]
    np.testing.assert_array_equal(first, [everything[0, 0], everything[1, 1]])
    last = model.step([rows[0][1:], [4]], ForwardContext(cache=cache))
    np.testing.assert_array_equal(last, [everything[0, 5], everything[1, 2]])
    np.testing.assert_array_equal(last, model.step(rows, ForwardContext()))
    for i in range(6):
        with np.errstate(divide="ignore"):
            wanted = np.log(model.probabilities(rows[0][: i + 1])).astype(np.float32)
        np.testing.assert_array_equal(everything[0, i], wanted)


def test_zero_probability_is_minus_infinity():
    logits = dog.model(4).step([RAN], ForwardContext())[0]
    assert np.isneginf(logits[:3]).all()
    np.testing.assert_allclose(np.exp(logits[3:]), [0.6, 0.3, 0.1], rtol=1e-6)


def test_cache_selects_forks_and_truncates():
    model = dog.model(4)
    cache = model.cache(2)
    model.step([[0, 1, 5], [0, 1]], ForwardContext(cache=cache))
    swapped, copy = cache.select([1, 0, 0]), cache.fork()
    assert swapped.lengths == [2, 3, 3]
    model.step([[3], [3]], ForwardContext(cache=copy))
    assert (cache.lengths, copy.lengths) == ([3, 2], [4, 3])
    copy.truncate(1)
    assert copy.lengths == [1, 1] and cache.lengths == [3, 2]


def test_what_an_ngram_has_not_says_so():
    model = dog.model(2)
    with pytest.raises(LucidError, match="no encoder"):
        model.encode([[0]], ForwardContext())
    with pytest.raises(LucidError, match=r"layers\.0"):
        model.replay("layers.0", np.zeros((1, 1, 1), np.float32), ForwardContext())


@pytest.mark.parametrize(
    "make",
    [
        lambda: dog.model(0),
        lambda: dog.model(10**9),
        lambda: dog.model(2, "good-turing"),
        lambda: NGram.train([[0]], LETTERS, 2, "add-k", k=0),
        lambda: NGram.train([[0]], LETTERS, 2, "add-k", k=float("nan")),
        lambda: NGram.train([[5]], LETTERS, 2),
        lambda: NGram.train([[-1]], LETTERS, 2),
        lambda: NGram.train([[]], LETTERS, 2),
        lambda: NGram.from_text(" \n\n", 2),
        lambda: dog.model(2).counts([6]),
        lambda: dog.model(2).step([[6]], ForwardContext()),
        lambda: dog.WORDS.encode("我 刚才 飞"),
    ],
)
def test_bad_input_is_one_sentence_in_both_languages(make):
    with pytest.raises(LucidError) as caught:
        make()
    assert caught.value.message("en") != caught.value.message("zh")


# vocabulary -----------------------------------------------------------------------------------


def test_words_of_a_text_and_back():
    words = Words.learn("b a b\nb c a", max_words=2)
    assert words.words == ("<unk>", "</s>", "b", "a")
    assert words.encode_lines("b c\n\na") == [[2, 0, 1], [3, 1]]
    assert words.decode([2, 0, 3, 1]) == "b <unk> a"
    assert words.bytes_of(1) == b""
    assert words.encode("</s> <unk>") == [0, 0], "text cannot spell a mark"


@given(st.text(min_size=1))
def test_characters_come_back(text):
    line = text.replace("\n", "")
    words = Words.learn(line + "x", split="character")
    assert words.decode(words.encode(line)) == line
    assert b"".join(map(words.bytes_of, words.encode(line))).decode() == line


def test_an_unknown_word_is_named_with_its_likes():
    with pytest.raises(UnknownName) as caught:
        Words(("running", "eating")).encode("runing")
    assert caught.value.nearest[0] == "running"


# files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_saved_and_loaded_it_is_the_same(tmp_path, smoothing):
    model = NGram.from_text(dog.text() * 2, 4, smoothing, k=0.25)
    model.save(tmp_path / "dog.ngram")
    again = NGram.load(tmp_path / "dog.ngram")
    assert again.words == model.words and again.order == 4 and again.smoothing == smoothing
    context = model.words.encode("现在")
    np.testing.assert_array_equal(again.probabilities(context), model.probabilities(context))
    assert [path.name for path in tmp_path.iterdir()] == ["dog.ngram"]


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "dog.ngram"
    dog.model(2).save(target)
    before = target.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(LucidError, match="No space left"):
        dog.model(3).save(target)
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(LucidError):
        dog.model(2).save(tmp_path / "absent" / "dog.ngram")


def test_every_mutilation_of_a_file_is_refused_or_harmless(tmp_path):
    path, generator = tmp_path / "dog.ngram", np.random.default_rng(1)
    dog.model(3, "kneser-ney").save(path)
    whole = path.read_bytes()
    refused = 0
    for i in range(1500):
        data = bytearray(whole)
        if i % 5 == 0:
            del data[generator.integers(len(data)) :]
        for at in generator.integers(0, max(1, len(data)), 1 + i % 3):
            if at < len(data):
                data[at] = generator.integers(256)
        path.write_bytes(data)
        try:
            p = NGram.load(path).probabilities([0, 1])
        except CheckpointError as error:
            refused += 1
            assert str(error) and error.message("zh")
        else:
            assert p.sum() == pytest.approx(1)
    assert refused > 500


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("not a model")
    for path in (tmp_path / "text", tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError):
            NGram.load(path)

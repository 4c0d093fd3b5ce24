"""Word vectors against plain float64 arithmetic, damaged files, and GloVe's own king and queen."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lucidlm.classical import WordVectors
from lucidlm.classical.expression import Term, parse
from lucidlm.classical.words import spelled_like
from lucidlm.errors import CheckpointError, LucidError, UnknownName
from lucidlm.home import models_home

ROYAL = {
    "king": [1, 1, 0],
    "queen": [1, -1, 0.1],
    "man": [0, 1, 0],
    "woman": [0, -1, 0],
    "state-of-the-art": [0, 0.1, 1],
    "国王": [1, 0.9, 0.1],
    "nothing": [0, 0, 0],
}


def royal() -> WordVectors:
    return WordVectors(list(ROYAL), np.array(list(ROYAL.values()), np.float32))


def write(folder, words, table):
    folder.mkdir(exist_ok=True)
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    np.save(folder / "vectors.npy", table)
    return folder


FINITE = st.floats(-100, 100, width=32)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(4)), elements=FINITE),
    arrays.arrays(np.float32, 4, elements=FINITE).filter(lambda v: np.abs(v).max() > 1e-3),
    st.integers(1, 40),
    st.sets(st.integers(0, 29)),
)
def test_nearest_ranks_by_cosine(table, vector, n, out):
    words = [f"w{i}" for i in range(len(table))]
    out = {f"w{i}" for i in out if i < len(table)}
    table[np.abs(table).max(1) < 1e-3] = 0
    exact, direction = table.astype(np.float64), vector.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    cosine = np.where(lengths > 0, exact @ direction / np.where(lengths > 0, lengths, 1), 0)
    wanted = dict(zip(words, cosine / np.linalg.norm(direction), strict=True))
    found = WordVectors(words, table).nearest(vector, n, exclude=out)
    assert len(found) == min(n, len(words) - len(out)) and not {f.word for f in found} & out
    for neighbour in found:
        assert neighbour.similarity == pytest.approx(wanted[neighbour.word], abs=1e-5)
    best = sorted((wanted[word] for word in set(words) - out), reverse=True)[: len(found)]
    np.testing.assert_allclose([f.similarity for f in found], best, atol=1e-5)


def test_an_analogy_gives_both_lists():
    result = royal().analogy("king - man + woman", n=2)
    assert result.terms == (Term(1, "king"), Term(-1, "man"), Term(1, "woman"))
    assert [x.word for x in result.nearest] == ["queen", "woman"]
    assert [x.word for x in result.nearest_others] == ["queen", "国王"]


@pytest.mark.parametrize(
    ("expression", "terms"),
    [
        ("king - man + woman", "+king -man +woman"),
        ("king-man+woman", "+king -man +woman"),
        ("king -man +woman", "+king -man +woman"),
        ("king－man＋woman", "+king -man +woman"),
        ("king − man", "+king -man"),
        ("- man + king", "-man +king"),
        ("state-of-the-art-man", "+state -of -the -art -man"),
        ("state-of-the-art - man", "+state-of-the-art -man"),
        ("-state-of-the-art", "-state-of-the-art"),
        ("国王－男人＋女人", "+国王 -男人 +女人"),
        ("King", "+King"),
    ],
)
def test_sums_as_people_type_them(expression, terms):
    found = parse(expression, royal().__contains__)
    assert " ".join("-+"[t.sign > 0] + t.word for t in found) == terms


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "+",
        "king -",
        "king man",
        "king + - man",
        "- - king",
        "king - king",
        "nothing",
        "emperor",
    ],
)
def test_a_sum_that_cannot_be_done_is_one_sentence(expression):
    with pytest.raises(LucidError) as caught:
        royal().analogy(expression)
    assert caught.value.message("en") != caught.value.message("zh")


@pytest.mark.parametrize("vector", [[1, 2], [0, 0, 0], [1, np.nan, 0], [[1, 2, 3]]])
def test_a_vector_that_points_nowhere_is_refused(vector):
    with pytest.raises(LucidError):
        royal().nearest(vector)


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_an_impossible_number_of_words_is_refused(n):
    with pytest.raises(LucidError):
        royal().nearest([1, 0, 0], n)


def test_names_are_found_in_lower_case_and_misspelt_ones_are_guessed():
    vectors = royal()
    assert "KING" in vectors and "emperor" not in vectors
    np.testing.assert_array_equal(vectors.vector("King"), vectors.vector("king"))
    with pytest.raises(UnknownName) as caught:
        vectors.vector("qeen")
    assert caught.value.nearest[0] == "queen"


def test_guessing_is_quick_among_many_words():
    letters = np.random.default_rng(0).integers(97, 123, (400_000, 8), np.uint8)
    known = [row.tobytes().decode() for row in letters]
    known[123_456] = "elephants"
    start = time.perf_counter()
    assert spelled_like("elephnats", known)[0] == "elephants"
    assert time.perf_counter() - start < 10  # all of difflib on them takes a minute


# files ----------------------------------------------------------------------------------------


def test_a_folder_is_mapped_not_read(tmp_path):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    words = ["a", "b\u2028c", "d\x85", "é"]  # other line ends are part of a word
    vectors = WordVectors.load(write(tmp_path / "v", words, table))
    assert vectors.words == words and vectors.dim == 3
    assert isinstance(vectors.matrix.base, np.memmap)
    np.testing.assert_array_equal(vectors.vector("é"), table[3])


def test_of_equal_words_the_first_counts(tmp_path):
    folder = write(tmp_path / "v", ["a", "b", "a"], np.eye(3, dtype=np.float32))
    assert WordVectors.load(folder).vector("a").tolist() == [1, 0, 0]


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_text_files_of_glove_and_word2vec(tmp_path, header):
    (tmp_path / "v.txt").write_text(f"{header}the 0.5 -1e-2\n国王 1 2\n. . 3 4\n", encoding="utf-8")
    vectors = WordVectors.load(tmp_path / "v.txt")
    assert vectors.words == ["the", "国王", ". ."]
    np.testing.assert_array_equal(vectors.matrix, np.array([[0.5, -0.01], [1, 2], [3, 4]], "f4"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No word vectors"),
        ("\n\n", "No word vectors"),
        ("hello\n", "No word vectors"),
        ("a 1 2\nb 1\n", "Line 2"),
        ("2 2\na 1 2\nb 1 x\n", "Line 3"),
        ("3 2\na 1 2\n", "3 words but 1"),
        ("99999999999 2\na 1 2\n", "99999999999 words but 1"),
        ("\udcff\udcff 1 2\n", "cannot be read"),
    ],
)
def test_damaged_text_files(tmp_path, text, said):
    (tmp_path / "v.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=said) as caught:
        WordVectors.load(tmp_path / "v.txt")
    assert caught.value.message("zh")


def test_tables_of_the_wrong_kind(tmp_path):
    for table in (
        np.zeros(4, np.float32),
        np.zeros((4, 2), np.float64),
        np.zeros((4, 2, 1), np.float32),
    ):
        with pytest.raises(CheckpointError, match="float32 table"):
            WordVectors.load(write(tmp_path / "v", "abcd", table))
    with pytest.raises(CheckpointError, match="3 words but 4"):
        WordVectors.load(write(tmp_path / "v", "abc", np.zeros((4, 2), np.float32)))
    np.save(tmp_path / "v" / "vectors.npy", np.array([["x"], [{}]], object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        WordVectors.load(tmp_path / "v")


def test_a_table_that_claims_more_than_it_has(tmp_path):
    folder = write(tmp_path / "v", "abcd", np.ones((4, 2), np.float32))
    file = folder / "vectors.npy"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"(4, 2), }     ", b"(4, 2" + b"0" * 8 + b"), }")[: len(whole)])
    with pytest.raises(CheckpointError):
        WordVectors.load(folder)
    for other in (whole[:-1], whole[:60], b"", b"PK\x03\x04", b"\x80\x04]."):
        file.write_bytes(other)
        with pytest.raises(CheckpointError):
            WordVectors.load(folder)


def test_every_mutilation_of_a_table_is_refused_or_harmless(tmp_path):
    folder = write(tmp_path / "v", "abcd", np.ones((4, 2), np.float32))
    whole, generator = (folder / "vectors.npy").read_bytes(), np.random.default_rng(1)
    refused = 0
    for i in range(2000):
        data = bytearray(whole)
        for at in generator.integers(0, 90, 1 + i % 2):
            data[at] = generator.integers(256)
        (folder / "vectors.npy").write_bytes(data)
        try:
            assert len(WordVectors.load(folder).nearest(np.ones(2), 4)) == 4
        except LucidError:
            refused += 1
    assert refused > 1000


def test_values_that_are_no_numbers_are_refused(tmp_path):
    for value in (np.nan, np.inf):
        folder = write(tmp_path / "v", "ab", np.array([[1, 2], [3, value]], np.float32))
        with pytest.raises(CheckpointError, match="not numbers"):
            WordVectors.load(folder).nearest([1, 1])


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="No word vectors"):
            WordVectors.load(path)


@pytest.mark.checkpoint("glove-6b-50d")
def test_king_minus_man_plus_woman_in_glove():
    vectors = WordVectors.load(models_home() / "glove-6b-50d")
    assert vectors.matrix.shape == (400_000, 50)
    result = vectors.analogy("king - man + woman")
    assert [x.word for x in result.nearest[:2]] == ["king", "queen"]
    assert [round(x.similarity, 3) for x in result.nearest[:2]] == [0.886, 0.861]
    assert result.nearest_others[0].word == "queen" and len(result.nearest_others) == 10
    assert vectors.analogy("king - man + women").nearest_others[0].word == "kingdom"
    start = time.perf_counter()
    vectors.nearest(vectors.vector("queen"))
    assert time.perf_counter() - start < 0.2

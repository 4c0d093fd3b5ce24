"""What the lessons on tokens, vectors, parameters, counting and attention compute, against figures
that were worked out apart from them.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

from lucidlm.lessons.telling import tell


@cache
def told(name: str) -> dict[str, Any]:
    return tell(name, "en").to_json()


def values(name: str) -> dict[str, Any]:
    """Every value that the lesson shows, by name."""
    return {key: value for beat in told(name)["beats"] for key, value in beat["values"].items()}


def figures(name: str) -> list[tuple[Any, Any]]:
    """(article, true) of every comparison, in order."""
    return [(figure["article"], figure["true"]) for figure in told(name)["figures"]]


def test_the_parameters_of_gpt3() -> None:
    shown = values("parameters")
    assert shown["matrix"] == 12288**2 == 150_994_944
    assert shown["projections"] == shown["counted"] == shown["all_heads"] == 57_982_058_496
    assert shown["parameters"] == shown["total"] == 174_604_259_328 and shown["difference"] == 0
    assert (shown["squares"], shown["singles"], shown["layers"], shown["heads"]) == (12, 13, 96, 96)
    assert shown["share"] == pytest.approx(0.33208, abs=1e-5)
    true = [151e6, 57.98e9, 0.33, 175e9]
    for (article, counted), wanted in zip(figures("parameters"), true, strict=False):
        assert article == wanted and counted == pytest.approx(wanted, rel=0.01)
    assert figures("parameters")[-1] == ("96 heads", "96 layers")


def test_the_dog_language() -> None:
    shown = values("counting")
    after = {"吃饭": 0.6, "睡觉": 0.3, "跑步": 0.1}
    assert shown["vector"] == pytest.approx([0, 0, 0, *after.values()])
    assert shown["answer"] == "吃饭" and shown["before"] == 3
    assert figures("counting")[0][0] == [0, 0, 0, 0.6, 0.3, 0.1]
    assert [row[0] for row in shown["orders"]["rows"]] == ["现在", "我 现在", "跑步 我 现在"]
    near = [10 / 30, 13 / 30, 7 / 30]  # the endings in all thirty sentences
    for row, wanted in zip(shown["orders"]["rows"], [near, near, [*after.values()]], strict=True):
        assert row[1:] == pytest.approx(wanted)
    assert shown["contexts"] == 6**3 and shown["large_contexts"] == 50257**3


def test_a_transformer_finds_the_word_that_counting_cannot_see() -> None:
    shown = values("counting")
    last = shown["pattern"]["values"][-1]
    assert last.index(max(last)) == 2 == 5 - shown["before"]  # three words before the blank
    assert sum(last) == pytest.approx(1) and shown["elsewhere"] < 1e-6
    for _, counting, transformer in shown["both"]["rows"]:
        assert transformer == pytest.approx(counting, abs=1e-6)
    assert shown["same"]["values"] == [
        pytest.approx([0, 0, 0, 0.1, 0.8, 0.1], abs=1e-6),
        pytest.approx([0, 0, 0, 0.3, 0.2, 0.5], abs=1e-6),
    ]


def test_one_word_a_step() -> None:
    shown = values("joining")
    steps = shown["steps"]["rows"]
    assert [row[2] for row in steps] == ["i", "love", "you", ".", "</s>"]
    assert [row[0] for row in steps][:2] == ["我 爱 你", "我 爱 你 i"]
    assert [row[1].split(" × ")[0] for row in steps] == ["3", "4", "5", "6", "7"]
    assert figures("joining") == [(3, 4), (4, 4), (12288, 12288)]
    assert shown["numbers"] == 4 * 12288
    flow = [shape for _, shape in shown["large_flow"]["stages"]]
    assert "N × M = 4 × 12,288" in flow and "L = 50,257" in flow
    turned, scores = shown["turned"], shown["mask"]["values"]
    assert turned < 1e-12 and scores[0][1:] == [None] * 3  # minus infinity
    for word, product, score, _ in shown["row"]["rows"]:
        assert score == pytest.approx(product / math.sqrt(shown["size"])), word


def test_attention_by_hand() -> None:
    shown = values("attention-by-hand")
    rows, query = shown["vectors"]["values"], list("写代码的中年人").index("年")
    scores = [sum(x * y for x, y in zip(row, rows[query], strict=True)) for row in rows]
    powers = [math.exp(score) for score in scores]
    weights = [power / sum(powers) for power in powers]
    context = [sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in range(4)]
    assert [row[1] for row in shown["scores"]["rows"]] == pytest.approx(scores)
    assert [share for _, share in shown["weights"]["rows"]] == pytest.approx(weights)
    assert shown["context"] == pytest.approx(context)
    rest = sum(powers) - powers[query]
    others = [power / rest * (at != query) for at, power in enumerate(powers)]
    assert [row[1] for row in shown["both"]["rows"]] == pytest.approx(weights)
    assert [row[2] for row in shown["both"]["rows"]] == pytest.approx(others)
    assert shown["every"]["values"][query] == pytest.approx(weights)
    assert shown["shape_in"] == shown["shape_out"] == "7 × 4"


def test_shares_of_the_articles_on_attention() -> None:
    shown = values("attention-by-hand")
    assert shown["left"] == pytest.approx(0.1)
    assert [row[2] for row in shown["apple_weights"]["rows"]] == pytest.approx([0.6, 0.2, 0.1, 0.1])
    assert [row[1] for row in shown["cafe_scores"]["values"]] == pytest.approx([0.7, 0.2, 0.1])
    assert shown["cafe_gap"] == pytest.approx(math.log(3.5))
    pattern = shown["weather"]
    words, good = pattern["rows"], pattern["values"][pattern["rows"].index("很好")]
    ranked = sorted(words, key=lambda word: -good[words.index(word)])
    assert set(ranked[:2]) == {"很好", "爬山"}


def test_pieces_of_the_question() -> None:
    shown = values("tokens")
    assert figures("tokens") == [(6, [len(pieces) for _, pieces in shown["cut"]["rows"]])]
    for _, pieces in shown["cut"]["rows"]:
        assert "".join(pieces) == "世界上最高的山峰是哪座?"
    assert shown["product"] == 0 and shown["characters"] == 12 and shown["bytes"] == 34


def test_three_structures() -> None:
    shown = values("families")
    assert shown["structures"] == 3 and figures("families") == [(2, 1)]
    assert shown["chat_kind"] == "decoder only"
    third, half = 1 / 3, 1 / 2
    assert shown["encoder_sight"]["values"] == [[0.25] * 4] * 4
    assert shown["decoder_sight"]["values"][1:3] == [
        pytest.approx([half, half, 0, 0]),
        pytest.approx([third, third, third, 0]),
    ]
    at = shown["functions"]["columns"].index("1")
    wanted = {"relu": 1, "sigmoid": 1 / (1 + math.exp(-1)), "tanh": math.tanh(1)}
    rows = dict(zip(shown["functions"]["rows"], shown["functions"]["values"], strict=True))
    assert {name: rows[name][at] for name in wanted} == pytest.approx(wanted)
    gates = {row[0]: row[1:3] for row in shown["used"]["rows"]}
    assert gates["llama-3-8b"] == ["silu", "yes"] and gates["transformer-base"] == ["relu", "no"]


@pytest.mark.checkpoint("smollm2-135m", "gemma3-270m", "minilm-l6")
def test_the_question_in_real_pieces() -> None:
    found = {beat.id: beat for beat in tell("tokens", "zh").beats}["real"].to_json()["values"]
    counts = {row[0]: row[3] for row in found["vocabularies"]["rows"]}
    assert counts == {"smollm2-135m": 23, "gemma3-270m": 8, "minilm-l6": 12}


@pytest.mark.checkpoint("glove-6b-50d")
def test_king_man_woman() -> None:
    answer = tell("word-vectors", "en").to_json()
    shown = {key: value for beat in answer["beats"] for key, value in beat["values"].items()}
    assert shown["nearest_word"] == "king" and shown["best_word"] == "queen"
    assert shown["nearest_similarity"] == pytest.approx(0.886, abs=5e-4)
    assert shown["best_similarity"] == pytest.approx(0.861, abs=5e-4)
    assert [figure["true"] for figure in answer["figures"]] == ["king", "queen", "kingdom"]


@pytest.mark.slow
@pytest.mark.checkpoint("smollm2-135m")
def test_one_character_in_two_kinds_of_company() -> None:
    answer = tell("context", "en").to_json()
    shown = {key: value for beat in answer["beats"] for key, value in beat["values"].items()}
    assert shown["piece"] == "模 3/3 (A1)" and shown["depth"] == 30
    assert shown["at_start"] == pytest.approx(1, abs=1e-9)
    assert shown["strange"] < shown["at_end"] < min(shown["models"], shown["persons"])
    shares = [row[1] for row in shown["following"]["rows"]]
    assert min(shares[:2]) > max(shares[2:])

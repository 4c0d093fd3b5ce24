"""Poems for the model `poet`, and the measures of their form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import poems
from models.data.rhymes import Rhymes, load_rhymes, share_of_group
from models.data.simplified import Simplifier, load_simplifier
from models.poet.form import Runs, measure, thrown_together

QUIET_NIGHT = ("床前明月光", "疑是地上霜", "举头望明月", "低头思故乡")
STORKS = ("白日依山尽", "黄河入海流", "欲穷千里目", "更上一层楼")
SPRING = ("春眠不觉晓", "处处闻啼鸟", "夜来风雨声", "花落知多少")
RHYMES: Rhymes = {
    character: frozenset({group})
    for group, characters in {"七陽": "霜乡光", "十一尤": "流楼", "十七筱": "晓鸟少"}.items()
    for character in characters
}

verses = st.sampled_from((5, 7)).flatmap(
    lambda length: st.sampled_from(poems.LINE_COUNTS).flatmap(
        lambda count: st.lists(
            st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5),
                    min_size=length, max_size=length),
            min_size=count, max_size=count,
        ).map(tuple)
    )
)  # fmt: skip


@given(verses)
def test_what_is_printed_is_read_again(poem: poems.Poem) -> None:
    assert poems.lines([poems.as_printed(poem)]) == poem
    assert poems.lines(poems.as_printed(poem).split("\n")) == poem


def test_a_poem_in_print() -> None:
    assert poems.as_printed(QUIET_NIGHT) == "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        (["白日依山盡，", "黃河入（一作「到（近）」）海流。", "欲窮千里目？", "更上一層樓！"], 4),
        (["「床前明月光，疑是地上霜，", "舉頭望明月，低頭思故鄉。」"], 4),
        (["床前明月光，疑是□上霜。舉頭望明月，低頭思故鄉。"], None),
        (["床前明月光，疑是{上/貝}上霜。舉頭望明月，低頭思故鄉。"], None),
        (["床前明月光，疑是地上霜。舉頭望明月，低頭思故。"], None),  # uneven
        (["床前明月光，疑是地上霜。"], None),  # a couplet only
        (["關關雎鳩，在河之洲。窈窕淑女，君子好逑。"], None),  # four characters
        ([""], None),
        (["（闕）。"], None),
    ],
)
def test_what_is_a_regular_poem(paragraphs: list[str], expected: int | None) -> None:
    found = poems.lines(paragraphs)
    assert (found and len(found)) == expected


def collection_of(tmp_path: Path, tang: list[str], song: list[str], known: list[str]) -> Path:
    for name, content in (
        ("quantangshi/poet.tang.0.json", [{"paragraphs": [text]} for text in tang[:2]]),
        ("quantangshi/poet.tang.1000.json", [{"paragraphs": [text]} for text in tang[2:]]),
        ("quantangshi/poet.song.0.json", [{"paragraphs": [text]} for text in song]),
        (
            "mengxue/tangshisanbaishou.json",
            {"content": [{"content": [{"paragraphs": [text]} for text in known]}]},
        ),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def turned(poem: poems.Poem, by: int) -> poems.Poem:
    """Another poem of the same characters."""
    return tuple(line[by:] + line[:by] for line in poem)


def test_what_is_collected(tmp_path: Path) -> None:
    old = "床前看月光，疑是地上霜。举头望山月，低头思故乡。"
    borrowed = ("床前明月光", *STORKS[1:3], "低头思故乡")
    lonely = ("千山鸟飞绝", "万径人踪灭", "孤舟蓑笠翁", "独钓寒江雪")
    tang = [turned(poem, by) for by in range(1, 5) for poem in (STORKS, QUIET_NIGHT)]
    new = ("白日入河山", "黄海上一楼", "欲目流光里", "更穷千月头")
    song = [STORKS, borrowed, lonely, tuple(line[::-1] for line in STORKS * 3), new]
    folder = collection_of(
        tmp_path,
        tang=[old, *map(poems.as_printed, [STORKS, STORKS, *tang, lonely])],
        song=[poems.as_printed(poem) for poem in song],
        known=[poems.as_printed(QUIET_NIGHT)],
    )
    found = poems.collect(folder, lambda text: text)
    assert found.known == [QUIET_NIGHT]  # and the other version is gone
    assert found.tang == [STORKS, *tang]  # the lonely poem's characters are in one poem only
    # half of the borrowed poem's lines stand in another; twelve lines are not taken from here
    assert found.song == [new]


def test_simplified_characters(tmp_path: Path) -> None:
    (tmp_path / "TSCharacters.txt").write_text("頭\t头\n鄉\t乡\n乾\t干 乾\n舉\t举\n", "utf-8")
    (tmp_path / "TSPhrases.txt").write_text("乾坤\t乾坤\n", "utf-8")
    simplify = load_simplifier(tmp_path)
    assert simplify("舉頭，故鄉乾坤乾。疎影祇") == "举头，故乡乾坤干。疏影只"


few = st.lists(st.text("春夏秋冬", min_size=5, max_size=5), min_size=4, max_size=4).map(tuple)


@given(st.lists(st.tuples(few, st.booleans()), min_size=1, max_size=60, unique=True))
def test_no_line_of_a_held_out_poem_is_learnt(rows: list[tuple[poems.Poem, bool]]) -> None:
    tang = [poem for poem, old in rows if old]
    song = [poem for poem, old in rows if not old]
    collection = poems.Collection(known=[QUIET_NIGHT], tang=[*tang, STORKS], song=song)
    train, held_out = poems.split(collection, share=0.5)
    assert sorted(train + held_out) == sorted([QUIET_NIGHT, *tang, STORKS])
    assert QUIET_NIGHT in train
    learnt = {line for poem in train + song for line in poem}
    assert not learnt & {line for poem in held_out for line in poem}


def test_rhyme_groups_are_those_of_all_that_a_character_stands_for(tmp_path: Path) -> None:
    path = tmp_path / "rhymes.json"
    table = {"ping": {"上平": {"一東": ["東", "沖"]}, "下平": {"二冬": ["衝"]}}, "ze": {}}
    path.write_text(json.dumps(table), encoding="utf-8")
    simplify = Simplifier({}, str.maketrans({"東": "东", "沖": "冲", "衝": "冲"}))
    rhymes = load_rhymes(path, simplify)
    assert rhymes["冲"] == {"一東", "二冬"} and rhymes["东"] == rhymes["東"] == {"一東"}
    assert share_of_group(rhymes, "东冲") == 1
    assert share_of_group(rhymes, "东衝") == 0.5
    assert share_of_group(rhymes, "无有") == 0


def test_real_poems_keep_the_form() -> None:
    texts = [poems.as_printed(poem) for poem in (QUIET_NIGHT, STORKS, SPRING)]
    form = measure(texts, Runs([texts[0]]), RHYMES)
    assert (form.even, form.endings, form.regular, form.rhymed, form.rhymed_lines) == (1,) * 5
    assert form.copied == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "even", "endings", "regular", "rhymed"),
    [
        ("床前明月光，疑是地上霜。\n举头望明月，低头思故乡", 1, 0.75, 0, 1),  # unfinished
        ("床前明月光，疑是地上霜，\n举头望明月，低头思故乡。", 1, 0.75, 0, 1),  # a wrong mark
        ("床前明月光，疑是地霜。\n举头望明月，低头思故乡。", 0, 0.75, 0, 1),  # a short line
        ("床前明月光，疑是地上霜。\n欲穷千里目，更上一层楼。", 1, 1, 1, 0),  # no rhyme
        ("床前明月光，疑是地上霜。", 1, 1, 0, 0),  # too short for a poem
        ("", 0, 0, 0, 0),
    ],
)
def test_broken_poems(text: str, even: int, endings: float, regular: int, rhymed: int) -> None:
    form = measure([text], Runs([]), RHYMES)
    assert (form.even, form.endings, form.regular, form.rhymed) == (even, endings, regular, rhymed)
    assert form.copied == 0


def brute_force(text: str, known: str) -> int:
    covered: set[int] = set()
    for start in range(len(text) - 6):
        if text[start : start + 7] in known:
            covered |= set(range(start, start + 7))
    return len(covered)


@given(st.text("天地人，\n", max_size=80), st.text("天地人。", max_size=200))
def test_copied_characters_are_those_of_a_search(text: str, known: str) -> None:
    bare, source = (re.sub(r"[，。\n]", "", part) for part in (text, known))
    assert Runs([known]).copied(text) == brute_force(bare, source)


def test_real_lines_thrown_together_keep_all_but_the_rhyme() -> None:
    texts = [poems.as_printed(poem) for poem in (QUIET_NIGHT, STORKS)]
    mixed = thrown_together(texts * 20)
    assert sorted("\n".join(mixed).split("\n")) == sorted("\n".join(texts * 20).split("\n"))
    form = measure(mixed, Runs([]), RHYMES)
    assert form.regular == 1 and form.rhymed < 0.9

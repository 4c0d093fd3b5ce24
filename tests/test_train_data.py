"""Rows out of files, what is wrong with some, and what a corpus makes of them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.errors import TrainError
from lucidlm.home import home
from lucidlm.text.explain import explain
from lucidlm.text.train import train_tokenizer
from lucidlm.train.corpus import Corpus, open_corpus
from lucidlm.train.recipe import build_recipe
from lucidlm.train.rows import PairRow, TextRow, digest
from lucidlm.train.sources import Source, rows_of

LINES = [
    f"the {a} {b} sat on the mat." for a in ("big", "red", "old") for b in ("cat", "dog", "hen")
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def corpus(folder: Path, train: Any, **told: Any) -> Corpus:
    """The corpus of a small recipe in `folder`."""
    data = {"train": train, "held_out_share": 0.0, **told.pop("data", {})}
    whole = {
        "data": data,
        "tokenizer": {"kind": "char", "vocab_size": 200},
        "context": 32,
        "batch": 2,
        **told,
    }
    recipe = build_recipe(whole, folder / "recipe.toml")
    return open_corpus(recipe, folder)


# -- rows ------------------------------------------------------------------------------------------


def test_the_same_texts_in_every_format_are_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": line} for line in LINES])
    (tmp_path / "a.txt").write_text("\n".join(LINES) + "\n", "utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": line}) + "\n" for line in LINES)
    pyarrow.parquet.write_table(pyarrow.table({"text": LINES}), tmp_path / "a.parquet")
    expected = [TextRow(line) for line in LINES]
    for name in ("a.jsonl", "b.jsonl.gz", "a.parquet"):
        assert [row for row, _ in rows_of(Source(path=name), tmp_path)] == expected
    by_line = Source(path="a.txt", lines=True)
    assert [row for row, _ in rows_of(by_line, tmp_path)] == expected
    whole = [row for row, _ in rows_of(Source(path="a.txt"), tmp_path)]
    assert whole == [TextRow("\n".join(LINES) + "\n")]


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.tsv").write_text("猫\tcat\n", "utf-8")
    write(tmp_path / "in" / "deep" / "a.jsonl", [{"source": "狗", "target": "dog"}])
    (tmp_path / "in" / "notes.md").write_text("no data")
    found = [row for row, _ in rows_of(Source(path="in"), tmp_path)]
    assert found == [PairRow("猫", "cat"), PairRow("狗", "dog")]


BAD: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b"", "a.jsonl is empty"),
    ("a.txt", b"\n \n", "a.txt is empty"),
    ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2 is no JSON"),
    ("a.jsonl", b'["x"]\n', "a.jsonl:1 is no JSON object: list"),
    ("a.jsonl", b'{"txt": "x"}\n', "it has txt. It needs 'text'"),
    ("a.jsonl", b'{"text": " "}\n', "'text' is empty"),
    ("a.jsonl", b'{"source": "x"}\n', "half a pair: its target"),
    ("a.jsonl", b'{"messages": []}\n', "at least one message"),
    ("a.jsonl", b'{"messages": [{"role": "bot", "content": "x"}]}\n', "no role 'bot'"),
    ("a.jsonl", b'{"messages": [{"role": "user"}]}\n', "message 1 has no content"),
    ("a.tsv", "猫 cat\n".encode(), "a.tsv:1 has 1 columns"),
    ("a.tsv", "猫\t\n".encode(), "half a pair: its target"),
    ("a.txt", b"\x89PNG\x00\x01", "not UTF-8|is no text"),
    ("a.txt", b"abc\x00", "zero byte at byte 3"),
    ("a.txt", "你好".encode("gb18030"), "a.txt:1 is not UTF-8 (byte 0 of the file)"),
    ("a.jsonl.gz", b"no gzip at all", "a.jsonl.gz cannot be read"),
    ("a.parquet", b"no parquet", "a.parquet cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "says"), BAD)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    pattern = "|".join(re.escape(part) for part in says.split("|"))
    with pytest.raises(TrainError, match=pattern) as error:
        list(rows_of(Source(path=name), tmp_path))
    assert error.value.message("zh") != error.value.message("en")


def test_a_missing_file_has_its_nearest_named(tmp_path: Path) -> None:
    (tmp_path / "sentences.jsonl").write_text("{}")
    with pytest.raises(TrainError, match=r"no file sentence\.jsonl.*sentences\.jsonl"):
        list(rows_of(Source(path="sentence.jsonl"), tmp_path))
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(TrainError, match=r"kind that is not read; known are \.txt"):
        list(rows_of(Source(path="a.csv"), tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainError, match="holds nothing to learn from"):
        list(rows_of(Source(path="empty"), tmp_path))


# -- corpora ---------------------------------------------------------------------------------------


def test_rows_are_counted_once_each(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": line} for line in [*LINES, LINES[0].upper(), LINES[1]]])
    write(tmp_path / "held.jsonl", [{"text": LINES[2]}, {"text": "something else"}])
    found = corpus(tmp_path, [{"path": "a.jsonl"}], data={"held_out": [{"path": "held.jsonl"}]})
    report = found.report
    assert (report.rows, report.held_out) == ((len(LINES) - 1,), 2)
    assert (report.duplicates, report.leaks) == (2, 1)
    learnt = set(map(digest, LINES)) - {digest(LINES[2])}
    assert report.tokens == sum(len(line) + 1 for line in LINES if digest(line) in learnt)
    assert any("2 rows were there already" in line for line in report.sentences())


def test_a_share_is_held_out_by_content(tmp_path: Path) -> None:
    texts = [f"row number {n}" for n in range(600)]
    write(tmp_path / "a.jsonl", [{"text": line} for line in texts])
    write(tmp_path / "b.jsonl", [{"text": line} for line in reversed(texts)])
    found = [
        corpus(tmp_path, [{"path": p}], data={"held_out_share": 0.1}).report
        for p in ("a.jsonl", "b.jsonl")
    ]
    assert found[0].held_out == found[1].held_out == sum(digest(t) < 0.1 * 2**64 for t in texts)
    assert sum(found[0].rows) + found[0].held_out == len(texts)
    assert 30 < found[0].held_out < 90


def test_either_side_of_a_held_out_pair_is_a_leak(tmp_path: Path) -> None:
    pairs = [("猫", "cat"), ("狗", "dog"), ("猫", "a cat"), ("小猫", "cat")]
    write(tmp_path / "a.jsonl", [{"source": a, "target": b} for a, b in pairs])
    write(tmp_path / "held.jsonl", [{"source": "猫", "target": "cat"}])
    report = corpus(
        tmp_path, [{"path": "a.jsonl"}], data={"held_out": [{"path": "held.jsonl"}]}
    ).report
    assert report.rows == (1,) and report.leaks == 3


def test_forbidden_words_stop_the_run(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "很好"}, {"text": "我爱你们"}])
    with pytest.raises(TrainError, match=r"a\.jsonl:2 contains '我爱你'"):
        corpus(tmp_path, [{"path": "a.jsonl"}], data={"forbid": ["我爱你"]})


def test_the_second_time_nothing_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", [{"text": line} for line in LINES])
    first = corpus(tmp_path, [{"path": "a.jsonl"}])
    kept, ids = home() / "corpora" / first.fingerprint, first.train.batch(3).ids.copy()
    with monkeypatch.context() as patch:
        patch.setattr("lucidlm.train.corpus.rows_of", None)
        again = corpus(tmp_path, [{"path": "a.jsonl"}])
    assert np.array_equal(again.train.batch(3).ids, ids)
    assert again.report == first.report
    (kept / "train" / "ids.bin").unlink()  # damaged: made anew
    assert np.array_equal(corpus(tmp_path, [{"path": "a.jsonl"}]).train.batch(3).ids, ids)
    write(tmp_path / "a.jsonl", [{"text": line} for line in LINES[1:]])
    assert corpus(tmp_path, [{"path": "a.jsonl"}]).fingerprint != first.fingerprint


def chats(folder: Path, **told: Any) -> Corpus:
    (folder / "chat.jinja").write_text(TEMPLATE, "utf-8")
    messages = [
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": "de"},
        {"role": "user", "content": "fg"},
        {"role": "assistant", "content": "hij"},
    ]
    write(folder / "a.jsonl", [{"messages": messages}])
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = {
        "kind": "char",
        "vocab_size": 200,
        "special": special,
        "chat_template": "chat.jinja",
    }
    return corpus(folder, [{"path": "a.jsonl"}], tokenizer=tokenizer, batch=1, **told)


def test_only_answers_are_learnt(tmp_path: Path) -> None:
    found = chats(tmp_path, data={"loss_on": "answers"})
    tokenizer, batch = found.tokenizer, found.train.batch(0)
    learnt = [int(id) for id in batch.targets[0] if id >= 0]
    assert tokenizer.decode(learnt, skip_special=False) == "de<|end|>hij<|end|>"
    assert {tokenizer.piece(id) for id in tokenizer.specials.eos} == {"<|endoftext|>", "<|end|>"}


def test_all_of_a_chat_is_learnt(tmp_path: Path) -> None:
    found = chats(tmp_path)
    read = found.tokenizer.decode(found.train.batch(0).ids[0][:20], skip_special=False)
    assert read.startswith("<|user|>abc<|end|><|assistant|>de<|end|><|user|>fg")


@pytest.mark.parametrize("loss_on", ["all", "answers"])
def test_a_pair_is_one_text_for_a_decoder(tmp_path: Path, loss_on: str) -> None:
    write(tmp_path / "a.jsonl", [{"source": "猫", "target": "cat"}])
    found = corpus(
        tmp_path,
        [{"path": "a.jsonl"}],
        data={"loss_on": loss_on, "pair": "{source}a{target}"},
        batch=1,
    )
    batch = found.train.batch(0)
    learnt = found.tokenizer.decode(
        [int(id) for id in batch.targets[0] if id >= 0], skip_special=False
    )
    assert learnt == ("acat<|endoftext|>" if loss_on == "all" else "cat<|endoftext|>")


def test_objectives_want_rows_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "x"}])
    write(tmp_path / "b.jsonl", [{"source": "猫", "target": "cat"}])
    with pytest.raises(TrainError, match="needs source and target"):
        corpus(tmp_path, [{"path": "a.jsonl"}], objective="translate")
    with pytest.raises(TrainError, match="needs plain texts"):
        corpus(tmp_path, [{"path": "b.jsonl"}], objective="mask")


def test_a_translation_ends_and_begins_as_marian_s(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [{"source": "猫", "target": "cat"}])
    found = corpus(tmp_path, [{"path": "b.jsonl"}], objective="translate", batch=1)
    tokenizer, batch = found.tokenizer, found.train.batch(0)
    assert batch.source is not None
    assert tokenizer.decode(batch.source[0][:2], skip_special=False) == "猫</s>"
    assert tokenizer.decode(batch.ids[0][:4], skip_special=False) == "<pad>cat"
    assert tokenizer.decode(batch.targets[0][:4], skip_special=False) == "cat</s>"


@given(st.text(max_size=40))
def test_the_explanation_of_lone_characters_ends_in_the_same_ids(text: str) -> None:
    tokenizer = ALONE
    assert list(explain(tokenizer, text).ids) == tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text, allow_special=False)) == text


ALONE = train_tokenizer(
    "bpe", ["我很开心。 the cat sat 2024", "我很忙", "the cat", "很开心"] * 5, 400, han_alone=True
)


def test_han_characters_stay_alone() -> None:
    pieces = [ALONE.bytes_of(id).decode() for id in ALONE.encode("我很开心")]
    assert pieces == ["我", "很", "开", "心"]
    assert [ALONE.bytes_of(id) for id in ALONE.encode("2024")] == [b"2", b"0", b"2", b"4"]


@pytest.mark.checkpoint("smollm2-135m")
def test_answers_are_found_in_a_published_template() -> None:
    import lucidlm
    from lucidlm.train.rendering import Renderer
    from lucidlm.train.rows import ChatRow

    model = lucidlm.load("smollm2-135m")
    told = {"data": {"train": [{"path": "-"}], "loss_on": "answers"}, "model": {"start": "x"}}
    render = Renderer(build_recipe(told, Path("r.toml")), model.tokenizer, model.template)  # type: ignore[arg-type]
    said = [
        ("user", "Hi"),
        ("assistant", "Hello there."),
        ("user", "Bye"),
        ("assistant", "So long."),
    ]
    row = ChatRow(tuple({"role": role, "content": content} for role, content in said))
    document = render(row, "-")
    assert document.learn is not None
    learnt = [id for id, learns in zip(document.ids, document.learn, strict=True) if learns]
    text = model.tokenizer.decode(learnt, skip_special=False)
    assert text == "Hello there.<|im_end|>So long.<|im_end|>"

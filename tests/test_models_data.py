"""The data of the shipped models: packages are unpacked as pinned, readers keep what is plain."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from models.data import cedict, fetch, hsk, libreoffice
from models.data.cloze import write_cloze
from models.data.fetch import FetchError, Package, digest, unpack
from models.data.rows import write_rows

PACKAGE = Package(
    kind="pip",
    name="some-data",
    version="1.0",
    members=("data/*.txt",),
    prefix="data/",
    licence="CC0-1.0",
    source="this test",
)
FILES = {"data/a.txt": b"one", "data/deep/b.txt": b"two", "code.py": b"import os", "data/c.md": b""}


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def debian(path: Path, files: dict[str, bytes]) -> Path:
    root = path.parent / "root"
    control = (
        "Package: some\nVersion: 1:2\nArchitecture: all\nMaintainer: A <a@b>\nDescription: d\n"
    )
    for name, content in {**files, "DEBIAN/control": control.encode()}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "DEBIAN").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", root, path], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("kind", ["a.whl", "a.tgz", "a.deb"])
def test_only_the_named_members_are_unpacked(kind: str, tmp_path: Path) -> None:
    make = {"whl": wheel, "tgz": tarball, "deb": debian}[kind[2:]]
    if make is debian and shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    unpack(PACKAGE, make(tmp_path / kind, FILES), tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {"a.txt": b"one", "deep/b.txt": b"two"}


def test_a_member_that_is_not_there_and_one_outside_are_refused(tmp_path: Path) -> None:
    empty = wheel(tmp_path / "empty.whl", {"data/c.md": b""})
    with pytest.raises(FetchError, match=r"no data/\*\.txt"):
        unpack(PACKAGE, empty, tmp_path / "out")
    evil = tarball(tmp_path / "evil.tgz", {"data/../../evil.txt": b"x"})
    with pytest.raises(FetchError, match="unsafe name"):
        unpack(PACKAGE, evil, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    digests = []
    for number, files in enumerate([{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        digests.append(digest(folder))
        (folder / fetch.RECORD).write_text("{}")
        assert digest(folder) == digests[-1]
    assert len(set(digests)) == 4


def test_a_package_is_fetched_once_and_must_be_the_one_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def download(client: str, *arguments: str, cwd: Path, advice: str) -> bytes:
        calls.append(arguments[-1])
        wheel(cwd / "some_data-1.0-py3-none-any.whl", FILES)
        return b""

    monkeypatch.setattr(fetch, "_run", download)
    monkeypatch.setitem(fetch.PACKAGES, "some-data", PACKAGE)
    folder = fetch.fetch("some-data", tmp_path)
    assert fetch.fetch("some-data", tmp_path) == folder
    assert calls == ["some-data==1.0"]
    record = json.loads((folder / fetch.RECORD).read_text())
    assert record["package"] == "pip: some-data 1.0" and record["licence"] == "CC0-1.0"
    assert record["sha256"] == digest(folder)

    other = dataclasses.replace(PACKAGE, version="1.1", sha256="0" * 64)
    monkeypatch.setitem(fetch.PACKAGES, "some-data", other)
    with pytest.raises(FetchError, match="other files than those pinned"):
        fetch.fetch("some-data", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["some-data-1.0"]


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="npm is not installed"):
        fetch.fetch("chinese-poetry", tmp_path / "home")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 404 not found >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(FetchError, match=r"`npm pack chinese-poetry@.*404 not found.*registry"):
        fetch.fetch("chinese-poetry", tmp_path / "home")
    assert not list((tmp_path / "home").iterdir())


def test_what_does_not_move_is_pinned() -> None:
    for package in fetch.PACKAGES.values():
        assert package.licence and package.source
        if package.kind != "apt":  # a distribution has one version at a time
            assert package.version and package.sha256 and len(package.sha256) == 64


def card(chinese: str, english: str | None, *tokens: tuple[str, str]) -> dict[str, object]:
    return {
        "chinese": chinese,
        "translation": {"en": english},
        "tokens": [{"word": word, "gloss_en": gloss} for word, gloss in tokens],
    }


def test_graded_sentences(tmp_path: Path) -> None:
    path = tmp_path / "sentences.json"
    cards = [
        card("下雨了，怎么办？", "It’s raining — what should we do?"),
        card("这棵树很粗。", "placeholder-p7"),
        card("他走了。", "PH"),
        card("没有。", None),
        card("你好！", "Hello!", ("好", "(bound form) well; good; proper"), ("你", "you")),
        card("你好！", "Hi!", ("好", "bad")),
        card("我爱你。", "I love you."),
        card("我很开心。", "I am very happy."),
    ]
    path.write_text(json.dumps(cards), encoding="utf-8")
    assert [(pair.source, pair.target) for pair in hsk.pairs(path)] == [
        ("下雨了，怎么办？", "It's raining - what should we do?"),
        ("你好！", "Hello!"),
    ]
    assert hsk.glosses(path) == {"好": "well", "你": "you"}


def test_held_out_sentences_do_not_depend_on_the_order() -> None:
    pairs = [hsk.Pair(f"第{number}句。", f"Sentence {number}.") for number in range(1000)]
    train, held_out = hsk.split(pairs)
    again, aside = hsk.split(pairs[::-1])
    assert len(held_out) == hsk.HELD_OUT and held_out == aside
    assert sorted(train + held_out, key=pairs.index) == pairs and set(train) == set(again)
    fewer = hsk.split(pairs[:990])[1]
    assert len(set(held_out) - set(fewer)) <= 10


def test_words_of_the_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "cedict.txt"
    path.write_text(
        """# CC-CEDICT
愛 爱 [ai4] /to love/
開心 开心 [kai1 xin1] /to feel happy; to rejoice/to make fun of sb/
布拉格 布拉格 [Bu4 la1 ge2] /Prague, capital of Czech Republic/
大學 大学 [Da4 xue2] /the Great Learning/
大學 大学 [da4 xue2] /university; college/CL:所[suo3]/
傢伙 家伙 [jia1 huo5] /variant of 家伙[jia1 huo5]/guy (coll.)/
幫忙 帮忙 [bang1 mang2] /to help (sb)/
喫飯 吃饭 [chi1 fan4] /variant of 吃飯|吃饭[chi1 fan4]/
一五一十地說 一五一十地说 [x] /to tell everything/
AA制 AA制 [A A zhi4] /to split the bill/
""",
        encoding="utf-8",
    )
    expected = {
        "开心": "to feel happy",
        "布拉格": "Prague",
        "大学": "university",
        "家伙": "guy",
        "帮忙": "to help",
    }
    assert cedict.words(path) == expected
    assert cedict.words(path, frozenset("大学开")) == {"大学": "university"}


@pytest.mark.parametrize(
    ("sense", "gloss"),
    [
        ("(of sb or sth) to be (located) at", "to be at"),
        ("to tell sb about sth", "to tell somebody about something"),
        ("one’s own; private", "one's own"),
        ("surname Li", None),
        ("see 東西|东西[dong1 xi5]", None),
        ("café", None),
        ("(literary)", None),
        ("(slang) to spank", None),
        ("I", "I"),
        ("a gloss that goes on and on and on for too long", None),
    ],
)
def test_plain_glosses(sense: str, gloss: str | None) -> None:
    assert cedict.plain_gloss(sense) == gloss


def test_help_pages_are_aligned_by_identifier(tmp_path: Path) -> None:
    chinese = """<h1 id="hd_id1">打开文件</h1>
<p id="par_id2" class="p">选择「<span>打开</span>」图标。输入一个新的名称。</p>
<p id="par_id3">只有中文的一段。</p>
<p id="par_id4">最多输入 20 个字符。</p><p id="par_id5">按 F3 键以关闭。</p>
<p id="par_id6">最多输入30个字符。</p>"""
    english = """<p id="par_id6">Type at most 30 characters.</p>
<h1 id="hd_id1">Opening files</h1>
<p id="par_id2">Choose the <b>Open</b> icon. Type a new
  name.</p>
<p id="par_id4">Type at most 25 characters.</p><p id="par_id5">Press F3 to close.</p>"""
    for side, text in (("zh", chinese), ("en", english)):
        (tmp_path / side / "guide").mkdir(parents=True)
        (tmp_path / side / "guide" / "page.html").write_text(text, encoding="utf-8")
    (tmp_path / "zh" / "alone.html").write_text(chinese, encoding="utf-8")
    assert libreoffice.pairs(tmp_path / "zh", tmp_path / "en") == [
        hsk.Pair("选择打开图标。", "Choose the Open icon."),
        hsk.Pair("输入一个新的名称。", "Type a new name."),
        hsk.Pair("最多输入30个字符。", "Type at most 30 characters."),
    ]


def test_cloze_sentences_stand_on_one_side_once(tmp_path: Path) -> None:
    natural = [f"今天是{number}号。" for number in range(2000)]
    grammar = [f"我有{number}本书。" for number in range(2000)]
    aside = ["昨天下雨了。", natural[5]]
    rows = write_cloze(
        tmp_path,
        natural=[*natural, *natural[:9], "因为我爱你，所以来了。", ""],
        grammar=[*grammar, *grammar[:9], natural[7], "昨天下雨了", "我 爱 你！"],
        held_out=aside,
    )
    texts = {
        name: [
            json.loads(line)["text"]
            for line in (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()
        ]
        for name in ("train", "grammar", "held_out")
    }
    assert rows == {name: len(found) for name, found in texts.items()}
    assert sorted(texts["train"] + texts["held_out"]) == sorted([*natural, aside[0]])
    assert set(texts["grammar"]) <= set(grammar) and len(set(texts["grammar"])) == rows["grammar"]
    assert set(aside) <= set(texts["held_out"])
    assert 20 <= rows["held_out"] <= 65 and 20 <= 2000 - rows["grammar"] <= 65  # 40 expected


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    assert write_rows(path, [{"text": "一\n二"}, {"text": "三"}]) == 2
    before = path.read_bytes()
    assert [json.loads(line)["text"] for line in before.splitlines()] == ["一\n二", "三"]

    def failing() -> object:
        yield {"text": "四"}
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_rows(path, failing())
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]

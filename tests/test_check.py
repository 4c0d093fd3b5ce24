"""`lucidlm check`: right files pass, each planted error is found and named, and no file is too bad
to be reported on.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucidlm.cli.main import main
from lucidlm.errors import LucidError
from lucidlm.lessons.checking.calling import Call, call
from lucidlm.lessons.checking.cases import cases
from lucidlm.lessons.checking.child import judge
from lucidlm.lessons.checking.choosing import _sample
from lucidlm.lessons.checking.compare import agree
from lucidlm.lessons.checking.functions import FUNCTIONS
from lucidlm.lessons.checking.inputs import passing
from lucidlm.lessons.checking.mistakes import attempt, causes, right
from lucidlm.lessons.checking.run import check
from lucidlm.lessons.checking.starter import starter
from lucidlm.lessons.checking.verdict import Verdict
from lucidlm.locale import LANGUAGES, text

ROOT = Path(__file__).parent.parent
STUDENTS = Path(__file__).parent / "students"
Capture = pytest.CaptureFixture[str]

# Every wrong file: its function, and the mistakes that are in it.
PLANTED = {
    "forgot_scale": ("attention", ["no_scale"]),
    "masked_after_softmax": ("attention", ["mask_after"]),
    "masked_with_zero": ("attention", ["mask_zero"]),
    "two_mistakes": ("attention", ["no_scale", "no_maximum"]),
    "wrong_axis": ("softmax", ["softmax_axis"]),
    "overflowing": ("softmax", ["no_maximum"]),
    "wrong_head_order": ("multi_head_attention", ["split_order", "merge_order"]),
    "torch_deviation": ("layer_norm", ["ddof", "eps_outside"]),
    "eps_outside": ("rms_norm", ["eps_outside"]),
    "forgot_relu": ("feed_forward", ["no_activation"]),
    "wrong_gate": ("gated_feed_forward", ["gate_gelu_tanh"]),
    "norm_before_add": ("decoder_layer", ["norm_before_add"]),
    "pre_norm": ("decoder_layer", ["pre_norm"]),
    "doubled_exponent": ("positional_encoding", ["exponent_double", "exponent_own"]),
    "mixed_pairs": ("rotate", ["pairs_mixed"]),
    "hot_and_cold": ("sample", ["temperature_multiplied"]),
    "short_nucleus": ("sample", ["top_p_short"]),
    "not_renormalised": ("sample", ["not_renormalised", "top_p_first"]),
    "unknown_mistake": ("softmax", []),
}


def verdicts(path: Path, **options: Any) -> dict[str, Verdict]:
    return {verdict.function: verdict for verdict in check(str(path), **options).verdicts}


def written(folder: Path, source: str) -> Path:
    path = folder / "written.py"
    path.write_text(source, encoding="utf-8")
    return path


# -- files that readers write ----------------------------------------------------------------------


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_right_file_is_right(library: str) -> None:
    report = check(str(STUDENTS / f"right_{library}.py"))
    assert report.library == library and report.is_fine
    found = {verdict.function: verdict.status for verdict in report.verdicts}
    assert found == dict.fromkeys(FUNCTIONS, "right")


def test_every_wrong_file_is_tested() -> None:
    assert {path.stem for path in STUDENTS.glob("*.py")} == {*PLANTED, "right_numpy", "right_torch"}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_named(name: str) -> None:
    function, mistakes = PLANTED[name]
    found = verdicts(STUDENTS / f"{name}.py")
    verdict = found.pop(function)
    assert list(verdict.causes) == mistakes
    assert all(other.status == "right" for other in found.values())
    assert verdict.status in ("wrong", "nan") and verdict.wrong > 0
    for lang in LANGUAGES:
        told = [cause["text"] for cause in verdict.to_json(lang)["causes"]]
        assert told == [text(f"check.mistake_{mistake}", lang) for mistake in mistakes]


def test_the_first_wrong_cell_is_named_with_both_numbers() -> None:
    verdict = verdicts(STUDENTS / "forgot_scale.py")["attention"]
    site = re.fullmatch(r"(.*)\[head=1\]", verdict.site or "")
    assert site and verdict.call == "attention(q (6, 4), k (6, 4), v (6, 4), mask (6, 6))"
    sites = passing("modern").sites
    assert verdict.cell == [1, 0]  # the first position sees itself alone, scaled or not
    assert verdict.expected == pytest.approx(sites[site[1]][1][1, 0], rel=1e-5)
    query, key, value = (
        sites[f"layers.1.attention.{n}"][1] for n in ("query_rotated", "key_rotated", "value")
    )
    weights = np.exp(query[1] @ key[:2].T)
    assert verdict.found == pytest.approx((weights / weights.sum() @ value[:2])[0])
    assert (verdict.wrong, verdict.cells) == (20, 24)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_the_terminal_shows(lang: str, capfd: Capture) -> None:
    assert main(["check", str(STUDENTS / "masked_after_softmax.py"), "--lang", lang]) == 2
    out, err = capfd.readouterr()
    flowing = re.sub(r"\s+", " ", out) if lang == "en" else re.sub(r"\s+", "", out)
    cause = text("check.mistake_mask_after", lang)
    assert err == "" and (cause if lang == "en" else re.sub(r"\s+", "", cause)) in flowing
    assert "-0.596916" in out and "[0, 0]" in out and "layers.1.attention.mixed[head=1]" in out


def test_a_right_file_exits_with_0(capfd: Capture) -> None:
    assert main(["check", str(STUDENTS / "right_numpy.py")]) == 0
    out, err = capfd.readouterr()
    assert err == "" and out.count("✓") == len(FUNCTIONS) and text("check.all_right") in out


def test_json(capfd: Capture) -> None:
    assert main(["check", str(STUDENTS / "overflowing.py"), "--json"]) == 2
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert err == "" and answer["library"] == "numpy" and answer["right"] is False
    (function,) = answer["functions"]
    assert function["status"] == "nan" and function["found"] == "nan"
    assert [cause["name"] for cause in function["causes"]] == ["no_maximum"]


# -- results that are not of the right form, and functions that do not come back -------------------

FORMS = {
    "softmax": ("return x.tolist()[:1]", "shape"),
    "attention": ("return q, k", "type"),
    "layer_norm": ("x -= x.mean()\n    return norm(x, weight, bias, eps)", "mutated"),
    "rms_norm": ("x = x @ x", "raised"),
    "feed_forward": ("hidden = np.maximum(x @ w_up + b_up, 0)", "type"),
    "gated_feed_forward": ("raise SystemExit(4)", "raised"),
    "embed": ("return table[ids].astype(np.float16)", "dtype"),
    "positional_encoding": ("return np.full((length, dim), np.nan)", "nan"),
    "rotate": ("return [[1.0], [1.0, 2.0]]", "type"),
    "decoder_layer": ("raise NotImplementedError", "unwritten"),
    "greedy": ("return float(logits.argmax())", "dtype"),
    "sample": ("import os; os._exit(3)", "ended"),
    "multi_head_attention": ("while True:\n        pass", "endless"),
}  # fmt: skip


@pytest.fixture(scope="module")
def formless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """A file in which no function is right, and two do not come back."""
    head = f"import sys\nsys.path.append({str(STUDENTS)!r})\nimport numpy as np\n"
    head += "from right_numpy import layer_norm as norm\nprint('a reader prints')\n"
    bodies = [
        f"def {name}({FUNCTIONS[name].signature}):\n    {body}\n"
        for name, (body, _) in FORMS.items()
    ]
    return verdicts(written(tmp_path_factory.mktemp("check"), head + "\n".join(bodies)), seconds=3)


def test_every_kind_of_failure_is_told_apart(formless: dict[str, Verdict]) -> None:
    assert list(formless) == list(FUNCTIONS)
    found = {name: verdict.status for name, verdict in formless.items()}
    assert found == {name: status for name, (_, status) in FORMS.items()}


def test_what_is_said_of_each_failure(formless: dict[str, Verdict]) -> None:
    assert formless["layer_norm"].detail == "x"
    assert formless["feed_forward"].detail == "None" and formless["attention"].detail == "tuple"
    assert formless["embed"].detail == "float16" and formless["greedy"].detail == "float"
    assert formless["sample"].detail == "3"
    assert formless["gated_feed_forward"].detail == "SystemExit: 4"
    assert "ValueError: matmul" in (formless["rms_norm"].detail or "")
    assert formless["softmax"].found_shape == [1, 6] and formless["softmax"].expected_shape == [
        6,
        6,
    ]


def test_the_line_of_a_loop_and_of_an_error_is_named(formless: dict[str, Verdict]) -> None:
    for name, verdict in formless.items():
        assert (verdict.line is not None) == (
            verdict.status in ("endless", "raised", "unwritten")
        ), name
    ends = formless["multi_head_attention"].line, formless["rms_norm"].line
    assert ends[0] and ends[1] and ends[0] > ends[1]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_failure_has_a_sentence(formless: dict[str, Verdict], lang: str) -> None:
    from lucidlm.cli.session import Session
    from lucidlm.terminal.checks import finding

    sentences = {finding(verdict, Session(lang).say) for verdict in formless.values()}
    assert len(sentences) == len(FORMS)
    assert text("check.status_nothing", lang) in sentences


def test_what_the_file_prints_is_no_part_of_the_answer(tmp_path: Path, capfd: Capture) -> None:
    source = (
        "print('from the file')\ndef greedy(logits):\n    print('called')\n    return input()\n"
    )
    assert main(["check", str(written(tmp_path, source)), "--json"]) == 2
    out, err = capfd.readouterr()
    assert err.startswith("from the file\ncalled\n")
    assert json.loads(out)["functions"][0]["detail"].startswith("EOFError")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "none of the functions"),
        ("from math import exp as softmax\ngreedy = 2\n", "none of the functions"),
        ("def greedy(logits):\n    raise NotImplementedError\n", "Nothing in"),
        ("import numpy\ndef softmax(x:\n    pass\n", "written.py:2 cannot be read as Python"),
        ("\n\nimport no_such_module\n", "written.py:3 cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit('no')\n", "written.py:1 cannot be imported: SystemExit: no"),
        ("import os\nos._exit(7)\n", "exit code 7"),
        ("x = '\0'\n", "null bytes"),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_checked(
    source: str, says: str, tmp_path: Path, capfd: Capture
) -> None:
    path = written(tmp_path, source)
    assert main(["check", str(path)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("Error: ") and says in err and err.count("\n") == 1


def test_a_file_that_does_not_come_to_an_end(tmp_path: Path) -> None:
    source = "import time\n\ndef greedy(logits):\n    return 0\n\ntime.sleep(1000)\n"
    with pytest.raises(LucidError, match=r":6 is still being imported"):
        check(str(written(tmp_path, source)), seconds=0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "FILE.py is missing"),
        (["no.py"], "cannot be read"),
        (["no\0.py"], "cannot be read"),
        ([str(STUDENTS)], "is a folder"),
        (["no.py", "--signatures"], "leave out no.py"),
    ],
)
def test_there_must_be_a_file(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.count("\n") == 1


# -- the recipes and cases that files are compared with --------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_right_is_what_the_model_computed(name: str) -> None:
    """Every case with a site: the recipe of the function gives what passed there."""
    sites = passing("original").sites, passing("modern").sites
    convention, seen = FUNCTIONS[name].conventions[-1 if name == "positional_encoding" else 0], 0
    for case in cases(name):
        place = re.fullmatch(r"([^\[]+)(?:\[head=(\d)\])?", case.site or "")
        if place and name not in ("greedy", "sample"):
            expected = right(FUNCTIONS[name], case, convention)
            passed = [model[place[1]] for model in sites if place[1] in model]
            passed = [each[int(place[2])] if place[2] else each for each in passed]
            assert any(agree(each, expected) for each in passed), case.site
            seen += 1
    assert seen or name in ("greedy", "sample")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_mistake_shows_and_no_two_look_alike(name: str) -> None:
    function = FUNCTIONS[name]
    for convention in function.conventions:
        made = {
            slip: [attempt(function, case, {*convention, *slips}) for case in cases(name)]
            for slip, slips in {"": (), **{slip: (slip,) for slip in function.mistakes}}.items()
        }
        for one, other in combinations(made, 2):
            pairs = zip(made[one], made[other], strict=True)
            assert not all(a is b if a is None or b is None else agree(a, b) for a, b in pairs), (
                one,
                other,
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_mistake_is_found_out(name: str) -> None:
    function = FUNCTIONS[name]
    for mistake in function.mistakes:
        for convention in function.conventions:

            def wrong(*given: Any, made: Any = (mistake, *convention)) -> Any:
                return function.recipe(*given, slips=made)

            verdict = judge(name, wrong, None, "", lambda entry: None)
            assert verdict.causes == (mistake,)


def test_sampling_step_by_step_is_sampling() -> None:
    for case in cases("sample"):
        if case.arguments[1] > 0:
            assert _sample(*case.arguments, ()) == right(FUNCTIONS["sample"], case, ())


def test_an_explanation_must_explain_every_call() -> None:
    function = FUNCTIONS["attention"]
    calls = [(case, attempt(function, case, {"no_scale"})) for case in cases("attention")]
    assert causes(function, calls) == ("no_scale",)
    calls[2] = (calls[2][0], calls[2][1] + 0.01)
    assert causes(function, calls) == ()


def test_a_call_gets_copies() -> None:
    (case, *_) = cases("embed")
    before = case.arguments[1].copy()

    def spoil(ids: Any, table: Any) -> Any:
        table[0] = 7.0
        return table[ids]

    done: Call = call(spoil, case, FUNCTIONS["embed"], None)
    assert done.mutated == "table" and (case.arguments[1] == before).all()


# -- what a reader reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_starter_is_a_file_to_check(lang: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", "--signatures", "--lang", lang]) == 0
    code = capsys.readouterr().out
    assert code == starter(lang)
    assert max(map(len, code.splitlines())) <= 100
    with pytest.raises(LucidError) as error:
        check(str(written(tmp_path, code)))
    assert error.value.values["names"] == ", ".join(FUNCTIONS)
    body = "    return logits.argmax()\n"
    filled = re.sub(
        r"(def greedy.*?)    raise NotImplementedError\n", rf"\1{body}", code, flags=re.S
    )
    report = check(str(written(tmp_path, filled)))
    assert report.is_fine
    assert [v.function for v in report.verdicts if v.status == "right"] == ["greedy"]


def test_signatures_as_json(capsys: Capture) -> None:
    assert main(["check", "--signatures", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in answer["functions"]] == list(FUNCTIONS)
    assert answer["functions"][1]["signature"] == "attention(q, k, v, mask=None)"
    assert answer["code"] == starter("en")


@pytest.mark.parametrize(("lang", "folder"), [("en", "docs"), ("zh", "docs/zh")])
def test_the_page_says_what_the_program_says(lang: str, folder: str, capfd: Capture) -> None:
    page = (ROOT / folder / "check.md").read_text(encoding="utf-8")
    assert f"```py\n{starter(lang)}```" in page
    mistakes = {name for function in FUNCTIONS.values() for name in function.mistakes}
    listed = set(re.findall(r"^- (.*)$", page, re.MULTILINE))
    assert {text(f"check.mistake_{name}", lang) for name in mistakes} <= listed
    shown = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    main(["check", str(STUDENTS / "forgot_scale.py"), "--lang", lang])
    drawn = capfd.readouterr().out.replace(str(STUDENTS / "forgot_scale.py"), "attention.py")
    assert [re.sub(r"\s+", "", block) for block in shown] == [re.sub(r"\s+", "", drawn)]

"""The lesson `parts`: what it concludes follows from the record, what it says of order is a law,
and a run can be made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import one_thread  # noqa: F401

from lucidlm.cli.main import main
from lucidlm.engine import ForwardContext
from lucidlm.errors import LucidError, UnknownName
from lucidlm.lessons.parts import lesson as parts
from lucidlm.lessons.parts import order, recorded
from lucidlm.lessons.parts.recorded import LEVELS, middle, sparkline, spread
from lucidlm.lessons.telling import lesson, rerun, tell
from lucidlm.locale import LANGUAGES
from lucidlm.train.parts.record import Record, Records
from lucidlm.train.parts.settings import NAMES

SMALL = replace(
    parts.SETTINGS,
    dim=16,
    layers=1,
    context=12,
    batch=2,
    steps=3,
    evaluations=1,
    pair_dim=16,
    pair_batch=4,
    pair_steps=3,
)


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@settings(max_examples=20)
@given(seed=st.integers(0, 1000), layers=st.integers(1, 3))
def test_the_order_is_lost_with_position_and_mask(
    causal: bool, placed: bool, seed: int, layers: int
) -> None:
    """Whatever the weights: lost without both, and without position in a single layer."""
    model = order.random_model(causal=causal, position=placed, layers=layers, seed=seed)
    rows = [order.WORDS.encode(sentence) for sentence in order.SENTENCES]
    one, two = (model.step([row], ForwardContext())[0] for row in rows)
    lost = not placed and (not causal or layers == 1)
    assert (np.abs(one - two).max() < 1e-6) == lost


@pytest.mark.parametrize(
    ("other", "verdict"), [((3.2, 9.0), "holds"), ((2.0, 2.9), "fails"), ((3.05, 9.0), "open")]
)
def test_a_verdict_needs_more_than_chance(
    monkeypatch: pytest.MonkeyPatch, other: tuple[float, float], verdict: str
) -> None:
    some = recorded.records().of("whole")[0]

    def made(name: str, losses: tuple[float, float]) -> list[Record]:
        return [replace(some, name=name, seed=at, writing=loss) for at, loss in enumerate(losses)]

    runs = tuple(made("whole", (3.0, 3.1)) + made("other", other))
    monkeypatch.setattr(parts, "records", lambda: Records(fingerprint="", machine="", runs=runs))
    assert parts.verdict("whole", "other") == verdict


def test_the_prose_says_what_the_record_says() -> None:
    """Else the paragraph below the verdicts is to be written anew, in both languages."""
    found = {claim: parts.verdict(part, without) for claim, part, without in parts.CLAIMS}
    assert found.pop("claim_counting") == "fails"
    assert {found.pop(claim) for claim in ("claim_norm", "claim_recurrent")} == {"open"}
    assert set(found.values()) == {"holds"}
    compared = {name for _, *names in parts.CLAIMS for name in names}
    assert compared == set(NAMES)


def test_the_gradient_stays_with_the_residual_and_goes_without() -> None:
    whole, without = (recorded.records().of(name)[0] for name in ("whole", "no-residual"))
    assert whole.last["layers.0"] > whole.last["layers.3"]
    assert without.first["layers.0"] < without.first["layers.3"]
    assert without.last["layers.0"] < 1e-3 * without.last["layers.3"]


def test_the_mean_and_the_spread() -> None:
    some = recorded.records().of("whole")[0]
    runs = tuple(replace(some, writing=loss) for loss in (2.0, 2.5, 3.3))
    assert middle(runs) == pytest.approx(2.6) and spread(runs) == pytest.approx(1.3)


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 1, 2, 7], 0, 7) == "▁▂▃█"
    assert sparkline([-5, 90], 0, 7) == LEVELS[0] + LEVELS[-1]


@pytest.mark.parametrize("name", ["whole", "encoder-decoder"])
def test_a_run_again_stands_beside_its_record(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SETTINGS", SMALL)
    for source in ("text", "pairs"):  # of either, the first lines
        lines = getattr(recorded, source)().splitlines(keepends=True)[:60]
        monkeypatch.setattr(parts, source, lambda lines=lines: "".join(lines))
    told: list[str] = []
    for lang in LANGUAGES:
        answer = rerun("parts", name, lang, told.append).to_json()
        (beat,) = answer["beats"]
        rows = beat["values"]["rows"]["rows"]
        assert len(rows) == 2 and rows[0] != rows[1]
        assert rows[0][2] == pytest.approx(recorded.records().of(name)[0].writing)
        json.dumps(answer, allow_nan=False)
    assert len(told) == 6 and "3" in told[2] and told[0] != told[3]


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(LucidError, match="nothing to train"):
        rerun("counting", "whole", "en", lambda sentence: None)
    with pytest.raises(UnknownName) as error:
        rerun("parts", "nomask", "en", lambda sentence: None)
    assert error.value.nearest[0] == "no-mask"
    assert all(name in str(error.value) for name in NAMES)
    assert [name for name in ("counting", "joining") if lesson(name).runs] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["counting", "--run", "whole"], "counting"),
        (["parts", "--run", "nomask"], "no-mask"),
        (["parts", "--run", "whole", "--code"], "--code"),
        (["--run", "whole"], "lucidlm lesson NAME --run RUN"),
        (["prats", "--run", "whole"], "parts"),
    ],
)
def test_the_command_refuses_it_too(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    for lang in LANGUAGES:
        assert main(["lesson", *arguments, "--lang", lang]) == 2
        out, err = capsys.readouterr()
        assert out == "" and says in err


def test_the_counting_model_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole of it, and exactly: there is no chance in counting."""
    assert main(["lesson", "parts", "--run", "n-gram", "--json"]) == 0
    (beat,) = json.loads(capsys.readouterr().out)["beats"]
    before, now = beat["values"]["rows"]["rows"]
    assert now[1] == before[1] and now[2] == pytest.approx(before[2], rel=1e-4)
    assert now[4] == before[4]
    assert main(["lesson", "parts", "--run", "n-gram", "--lang", "zh"]) == 0
    assert "记录" in capsys.readouterr().out


def test_one_step_agrees_with_nudging() -> None:
    beats = {beat.id: beat.values for beat in tell("parts", "en").beats}
    agreement, apart = beats["backward"]["agreement"], beats["update"]["update_apart"]
    assert isinstance(agreement, float) and agreement < 1e-5
    assert isinstance(apart, float) and apart < 1e-15
    assert beats["update"]["first_step"] == pytest.approx(parts.RATE, rel=1e-4)


def test_without_torch_the_record_is_told() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from lucidlm.cli.main import main\n"
        "from lucidlm.lessons.telling import tell\n"
        "told = tell('parts', 'en')\n"
        "print(*(beat.id for beat in told.beats if beat.needs))\n"
        "print(*(beat.needs for beat in told.beats if beat.needs), sep='\\n')\n"
        "assert main(['lesson', 'parts', '--run', 'whole']) == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "backward update"
    assert len(lines) == 3 and all("pip install 'lucidlm[torch]'" in line for line in lines[1:])
    assert "lucidlm[torch]" in done.stderr

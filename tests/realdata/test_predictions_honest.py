"""Honest verdicts: planted effects are found, absent ones called absent, and many tests are corrected for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from realdata.predictions import (
    ABSENT,
    HOLDS,
    NO_RANGE,
    PREDICTIONS,
    REVERSED,
    UNDECIDED,
    Design,
    PredictionData,
    dynamic_range,
)
from realdata.predictions.correction import corrected
from realdata.predictions.dynamic_range import is_flat, range_of
from realdata.predictions.intervals import interval_of
from realdata.predictions.prediction import Evidence, Finding, PartSpec, RealPrediction, combine, decide_by_sign
from realdata.predictions.tables import (
    TESTS,
    is_corrected,
    judge_setting,
    judge_settings,
    read_predictions,
    table_of,
    verdict_rows,
    verdict_text,
)
from sambalance_tools.statistics import holm, smallest_detectable_effect
from support.prediction_rows import World, made

FIVE = Design(scan_seeds=5)
CLEAR, BARELY, NONE = [-0.05, -0.052, -0.049, -0.051], [-0.01, -0.02, -0.03, -0.004], [0.0005, -0.0004, 0.0001, -0.0002]
R1, R2 = PREDICTIONS["R1"], PREDICTIONS["R2"]


def sign(numbers: list[float]) -> Finding:
    return decide_by_sign(interval_of(numbers), negative=True, what="difference")


def parts(*findings: Finding) -> tuple[RealPrediction, Evidence]:
    """A prediction with these parts, and its evidence."""
    specs = tuple(PartSpec(name, "", "", "") for name, _ in zip("abcdefgh", findings, strict=False))
    found = Evidence({spec.name: finding for spec, finding in zip(specs, findings, strict=True)})
    return RealPrediction("R", "", "", "", "", "", specs, (), lambda data: found), found


# Planted effects.


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (World(sam_hard=-0.05, noise=0.002), HOLDS),
        (World(sam_hard=0.05, noise=0.002), REVERSED),
        (World(sam_hard=0.0, noise=0.001), ABSENT),
        (World(sam_hard=-0.05, noise=0.002, untrained=0.6), HOLDS),
        (World(sam_hard=-0.05, noise=0.002, untrained=0.32), NO_RANGE),
    ],
)
def test_r1_on_planted_effects(world: World, expected: str, tmp_path: Path) -> None:
    one = judge_setting(made(tmp_path, world, FIVE), [R1])
    assert {finding.verdict for finding in one.evidence["R1"].findings.values()} == {expected}
    assert one.verdicts["R1"].verdict == expected


def paper_cnn(tmp_path: Path, world: World) -> PredictionData:
    return made(tmp_path, world, FIVE, model="paper_cnn", model_options={"width": 32, "head": "flatten"})


@pytest.mark.parametrize(
    ("by_head", "expected"),
    [
        ({"flatten": -0.05, "pooled": 0.0}, HOLDS),
        ({"flatten": 0.0, "pooled": -0.05}, REVERSED),
        ({"flatten": -0.05, "pooled": -0.05}, ABSENT),
    ],
)
def test_r8_on_planted_interactions(by_head: dict[str, float], expected: str, tmp_path: Path) -> None:
    """The same gain under both heads is no interaction, however large it is."""
    data = paper_cnn(tmp_path, World(sam_by_head=by_head, noise=0.002))
    one = judge_setting(data, [PREDICTIONS["R8"]])
    assert one.verdicts["R8"].verdict == expected
    found = one.evidence["R8"].findings["a"].interval
    assert found is not None
    assert found.n == 5
    assert found.mean == pytest.approx(by_head["flatten"] - by_head["pooled"], abs=0.006)


def test_r8_has_nothing_to_say_of_networks_with_one_head(tmp_path: Path) -> None:
    one = judge_setting(made(tmp_path, World(), FIVE, model="two_towers"), [PREDICTIONS["R8"]])
    assert one.verdicts["R8"].verdict == UNDECIDED
    assert "two_towers has one head" in one.verdicts["R8"].reason


@pytest.mark.parametrize(
    ("by_half", "expected"),
    [
        ({"first": -0.05, "second": 0.0}, HOLDS),
        ({"first": 0.0, "second": -0.05}, REVERSED),
        ({"first": -0.03, "second": -0.03}, ABSENT),
    ],
)
def test_r12_on_planted_halves(by_half: dict[str, float], expected: str, tmp_path: Path) -> None:
    one = judge_setting(made(tmp_path, World(sam_by_half=by_half, noise=0.002), FIVE), [PREDICTIONS["R12"]])
    assert one.verdicts["R12"].verdict == expected


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        # SGD ends at 0.30 on average and scatters by 0.016 over seeds.
        (World(untrained=0.6, ceiling=0.1, noise=0.002), HOLDS),
        (World(untrained=0.33, ceiling=0.1, noise=0.002), NO_RANGE),
        (World(untrained=0.6, ceiling=0.7, noise=0.002), UNDECIDED),
    ],
)
def test_r13_on_planted_ranges(world: World, expected: str, tmp_path: Path) -> None:
    """Training that moves nothing has no range; a ceiling above the untrained error leaves no room to judge."""
    one = judge_setting(made(tmp_path, world, FIVE), [PREDICTIONS["R13"]])
    assert one.verdicts["R13"].verdict == expected, one.verdicts["R13"].reason
    if expected == HOLDS:
        share = one.evidence["R13"].findings["c"].interval
        assert share is not None
        assert share.mean == pytest.approx(0.56, abs=0.03)


def test_an_undecided_finding_says_what_could_have_been_seen() -> None:
    numbers = [0.05, -0.08, 0.02, -0.03, 0.06]
    found = sign(numbers)
    assert (found.verdict, found.interval) == (UNDECIDED, interval_of(numbers))
    assert found.interval is not None
    assert found.interval.sd is not None
    expected = smallest_detectable_effect(found.interval.sd, 5)
    assert found.detectable == pytest.approx(expected, rel=1e-6)
    assert f"an effect of {expected:.2g} would have been found with a power of 80 %" in found.reason


# Correction.


def test_a_weak_effect_among_many_tests_is_undecided_and_a_clear_one_is_found() -> None:
    weak, clear = sign(BARELY), sign(CLEAR)
    weak_alone = decide_by_sign(interval_of([-0.02, -0.03, -0.01, -0.015]), negative=True, what="")
    assert (clear.verdict, weak_alone.verdict) == (HOLDS, HOLDS)
    prediction, evidence = parts(weak_alone, clear, weak, weak)
    again, _ = corrected(prediction, [evidence, evidence])
    assert again.findings["b"].verdict == HOLDS
    assert again.findings["a"].verdict == UNDECIDED
    assert again.findings["a"].interval == weak_alone.interval
    tests = [finding.p for finding in evidence.findings.values()] * 2
    expected = holm([p for p in tests if p is not None])
    assert [again.findings[name].p_corrected for name in "abcd"] == pytest.approx(list(expected[:4]))
    assert again.findings["a"].p == weak_alone.p
    # What could have been seen is larger where more is asked.
    assert (again.findings["a"].detectable or 0) > (weak_alone.detectable or math.inf)


def test_an_absent_effect_among_many_tests_needs_more_evidence_too() -> None:
    nearly = sign([-0.008, 0.006, -0.005, 0.004])
    assert nearly.verdict == ABSENT
    prediction, evidence = parts(*[nearly] * 4)
    (again,) = corrected(prediction, [evidence])
    assert {finding.verdict for finding in again.findings.values()} == {UNDECIDED}
    prediction, evidence = parts(*[sign(NONE)] * 4)
    (again,) = corrected(prediction, [evidence])
    assert combine(prediction.parts, again.findings).verdict == ABSENT


def test_parts_without_a_test_or_without_weight_are_not_counted() -> None:
    prediction, evidence = parts(sign(CLEAR), Finding(UNDECIDED, "no test"))
    (again,) = corrected(prediction, [evidence])
    assert again.findings["a"].p_corrected == again.findings["a"].p
    assert again.findings["b"] == evidence.findings["b"]
    assert combine(prediction.parts, again.findings).verdict == UNDECIDED


def test_tables_have_raw_and_corrected_p_and_bold_only_for_corrected(tmp_path: Path) -> None:
    predictions = list(PREDICTIONS.values())
    data = [made(tmp_path / "a", World(noise=0.002)), made(tmp_path / "b", World(noise=0.002), lr=0.1)]
    alone = judge_setting(data[0], [R2]).evidence["R2"].findings["a"]
    rows = verdict_rows(judge_settings(data, predictions), predictions)
    both = next(row for row in rows if (row["prediction"], row["part"]) == ("R2", "a"))
    assert both["p"] == alone.p
    assert both["p_corrected"] > (alone.p or 1.0)
    assert both["estimate"] == pytest.approx(alone.interval.mean if alone.interval else None)
    for row in rows:
        tested = row["p_corrected"] is not None and row["verdict"] not in (UNDECIDED, NO_RANGE)
        assert is_corrected(row) == tested
        assert not (row["prediction"] in ("R4", "R7") and is_corrected(row))
    text = verdict_text(rows, predictions)
    assert "**✓ holds**" in text
    assert "p (Holm)" in text
    # R4 holds by an interval that is not corrected.
    (line,) = [line for line in text.splitlines() if line.startswith("| Made up") and "R1a" not in line][:1]
    assert line.split("|")[5].strip() == "✓ holds"


def test_tables_of_earlier_versions_are_read(tmp_path: Path) -> None:
    rows = verdict_rows([judge_setting(made(tmp_path), [R1])], [R1])
    old = table_of(rows).drop(columns=list(TESTS))
    old["verdict"] = "fails"
    old.to_parquet(tmp_path / "predictions.parquet")
    found = read_predictions(tmp_path / "predictions.parquet")
    assert found[list(TESTS)].isna().all(axis=None)
    assert pd.api.types.is_float_dtype(found["p"])


# Parts that cannot be tested.


def test_r2_does_not_hold_without_a_matched_level(tmp_path: Path) -> None:
    found = judge_setting(made(tmp_path, World(loss_of_sam=1.3)), [R2])
    assert found.evidence["R2"].findings["a"].verdict == HOLDS
    assert not found.evidence["R2"].findings["b"].testable
    assert found.verdicts["R2"].verdict == UNDECIDED
    assert "not testable: (b)" in found.verdicts["R2"].reason


# Dynamic range.


def test_the_range_is_a_fraction_of_what_is_possible() -> None:
    assert dynamic_range([0.5, 0.5], [0.4, 0.4]) == pytest.approx(0.2)
    assert dynamic_range([0.5, 0.5], [0.4, 0.4], [0.3, 0.3]) == pytest.approx(0.5)
    assert dynamic_range([0.4], [0.5]) == pytest.approx(-0.25)
    assert math.isnan(dynamic_range([0.3], [0.2], [0.3]))


def test_a_range_below_the_scatter_is_flat_in_both_directions() -> None:
    assert is_flat([0.31, 0.31, 0.31], [0.28, 0.30, 0.32])
    assert not is_flat([0.35, 0.35, 0.35], [0.28, 0.30, 0.32])
    # Training that loses the hard attribute moves it, too.
    assert not is_flat([0.25, 0.25, 0.25], [0.28, 0.30, 0.32])


@pytest.mark.parametrize("name", ["R1", "R5", "R6"])
def test_no_range_is_called_that(name: str, tmp_path: Path) -> None:
    found = judge_setting(made(tmp_path, World(untrained=0.32), FIVE), [PREDICTIONS[name]]).verdicts[name]
    assert (found.verdict, found.testable, found.p) == (NO_RANGE, False, None)
    wide = judge_setting(made(tmp_path / "wide", World(untrained=0.6), FIVE), [PREDICTIONS[name]])
    assert wide.verdicts[name].verdict == HOLDS
    assert all("dynamic range 0.4" in each.reason for each in wide.evidence[name].findings.values())


def test_an_unknown_range_is_said_and_changes_no_verdict(tmp_path: Path) -> None:
    data = made(tmp_path, design=FIVE)
    assert range_of(data).fraction is None
    found = judge_setting(data, [R1])
    assert found.verdicts["R1"].verdict == HOLDS
    assert all(each.reason.endswith("dynamic range unknown") for each in found.evidence["R1"].findings.values())


def test_an_untrained_network_of_one_seed_gives_no_range(tmp_path: Path) -> None:
    made(tmp_path, World(untrained=0.6), Design(seeds=1))
    for path in (tmp_path / "runs").glob("*/rows.json"):
        stored = json.loads(path.read_text())
        assert stored["checkpoints"]["untrained"]["step"] == 0
    assert range_of(made(tmp_path, World(untrained=0.6), Design(seeds=1))).words == "dynamic range unknown"

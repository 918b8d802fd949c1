"""Every claim is proved, every planted error is found, and a broken function makes the claim of its number fail."""

import math
import re

import numpy as np
import pytest

import toymodels.theory as theory
from proofs_check.claim import Control, check
from proofs_check.proof import ProofError
from proofs_check.registry import all_claims, select

CLAIMS = all_claims()


@pytest.fixture(scope="module")
def functions_of():
    """The functions of the theory that each claim's proof uses: every claim is proved here."""
    return {name: claim.prove().f.used for name, claim in CLAIMS.items()}


def test_every_claim_is_proved_with_functions_of_the_theory(functions_of):
    assert all(functions_of.values())


# The proofs take seconds, their planted errors, witnesses in fifty digits and simulations minutes.
@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_proved_with_its_controls_witness_and_simulation(name):
    outcome = check(CLAIMS[name])
    assert outcome.failures == []
    assert outcome.rejections
    assert all(rejection.rejected for rejection in outcome.rejections)
    assert outcome.witness_max_error < 1e-30
    assert outcome.simulation.error <= outcome.simulation.bound
    assert math.isfinite(outcome.simulation.bound)
    assert outcome.functions


def test_every_claim_says_what_it_needs_and_where_it_comes_from():
    assert set(CLAIMS) >= {f"C{i}" for i in range(1, 24)}
    for claim in CLAIMS.values():
        assert claim.statement
        assert claim.latex
        assert claim.assumptions
        assert claim.source
        assert len(claim.controls) >= 2


def test_every_function_of_the_theory_is_under_proof(functions_of):
    assert set().union(*functions_of.values()) == set(theory.__all__)


def larger(value):
    """The value one part in a thousand too large, whatever it is made of."""
    if isinstance(value, tuple):
        return tuple(larger(v) for v in value)
    if isinstance(value, list):
        return [larger(v) for v in value]
    return value * (1000 + 1) / 1000


@pytest.mark.parametrize("name", theory.__all__)
def test_a_function_that_is_off_by_a_thousandth_fails_the_claim_in_its_docstring(name, functions_of, monkeypatch):
    original = getattr(theory, name)
    claims = re.findall(r"C\d+", original.__doc__.split("\n")[0].split(":")[0])
    assert claims, f"the docstring of {name} does not start with its claim"
    monkeypatch.setattr(theory, name, lambda *args: larger(original(*args)))
    users = [claim for claim in claims if name in functions_of[claim]]
    assert users, f"none of {claims} uses {name}"
    with pytest.raises(ProofError):
        CLAIMS[users[0]].prove()


def test_the_failure_says_which_function_and_where(monkeypatch):
    monkeypatch.setattr(theory, "balance_threshold", lambda rho, mu_easy, mu_hard: rho * (mu_easy - mu_hard))
    outcome = check(CLAIMS["C7"])
    assert outcome.status == "failed"
    assert any("toymodels.theory.balance_threshold" in failure and "off by" in failure for failure in outcome.failures)


def test_a_control_that_is_not_rejected_counts_as_a_failure():
    from dataclasses import replace

    blind = replace(
        CLAIMS["C8"], controls=(Control("no error at all", {"suppression_window": theory.suppression_window}),)
    )
    assert check(blind).failures == ["control not rejected: no error at all"]


def test_a_control_that_only_crashes_is_not_a_rejection():
    from dataclasses import replace

    crashing = replace(CLAIMS["C8"], controls=(Control("no function", {"suppression_window": lambda *_: None}),))
    assert check(crashing).failures == ["control not rejected: no function"]


def test_a_wrong_simulation_or_witness_fails_the_claim(monkeypatch):
    monkeypatch.setattr(theory, "sam_shift", lambda rho: 1.001 * rho / np.sqrt(2))
    monkeypatch.setattr(theory, "squared_norm_rate", lambda m, r, n: 2 * (2 * m - r * n) + 1e-20)
    assert any(failure.startswith("witness: error") for failure in check(CLAIMS["C26"]).failures)
    monkeypatch.setattr(theory, "relu_pair_equivalent", lambda eta, rho: (eta / 2, rho / 1.4))
    assert any(failure.startswith("simulation: error") for failure in check(CLAIMS["C18"]).failures)


def test_select_knows_its_claims():
    assert [claim.id for claim in select(["c9", "C2"])] == ["C2", "C9"]
    with pytest.raises(ValueError, match="unknown claim C99; known: C1, C2"):
        select(["C99"])

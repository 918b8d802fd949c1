"""The steps of a proof hold what they should and refuse what they should."""

import pytest
import sympy as sp

from proofs_check.formulas import Formulas
from proofs_check.proof import Proof, ProofCrash, ProofError

a, b = sp.symbols("a b", positive=True)
x = sp.Symbol("x", real=True)


@pytest.fixture
def proof():
    return Proof(Formulas())


def test_equal_accepts_an_identity_and_records_it(proof):
    proof.equal("square", (a + b) ** 2, a**2 + 2 * a * b + b**2)
    assert [step.text for step in proof.steps] == ["square"]


def test_equal_names_step_function_and_counterexample(proof):
    with pytest.raises(ProofError, match=r"square \[toymodels.theory.drive\]: off by .* at a = "):
        proof.equal("square", (a + b) ** 2, a**2 + b**2, "drive")


def test_equal_wants_as_many_values_as_were_derived(proof):
    with pytest.raises(ProofError, match="1 values where there should be 2"):
        proof.equal("pair", (a, b), (a,))


def test_sign_follows_from_factors_only(proof):
    proof.sign("product", a * b + a)
    proof.sign("square", x**2, at_least=True)
    with pytest.raises(ProofError, match="does not follow"):
        proof.sign("difference", a - b)


def test_implies_proves_over_the_reals_and_shows_where_it_fails(proof):
    proof.implies("larger square", [a > b], a**2 > b**2)
    with pytest.raises(ProofError, match="fails at"):
        proof.implies("larger square", [x > -1], x**2 > 1)


def test_implies_knows_that_positive_symbols_are_positive(proof):
    proof.implies("sum", [], a + b > a)
    with pytest.raises(ProofError):
        proof.implies("sum", [], a + x > a)


def test_a_crash_is_told_from_a_refutation(proof):
    with pytest.raises(ProofCrash, match="ZeroDivisionError"), proof.blaming("C0"):
        1 / 0  # noqa: B018


def test_unknown_formulas_are_refused_by_name():
    with pytest.raises(AttributeError, match="no function 'drives'"):
        Formulas({"drives": abs})
    with pytest.raises(AttributeError, match="no function 'drives'"):
        Formulas().drives  # noqa: B018

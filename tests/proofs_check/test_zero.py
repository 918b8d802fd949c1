"""The decision whether an expression is zero: what it proves, what it refutes, what it must not prove."""

import pytest
import sympy as sp

from proofs_check.zero import counterexample, is_zero

a, b, rho = sp.symbols("a b rho", positive=True)
x, y = sp.symbols("x y", real=True)

IDENTITIES = {
    "rational": 1 / (a - b) - (a + b) / (a**2 - b**2),
    "root of a sum": sp.sqrt(2 * a**2 + 2 * b**2) - sp.sqrt(2) * sp.sqrt(a**2 + b**2),
    "root of a product": sp.sqrt(a**2 * (x**2 + 1)) - a * sp.sqrt(x**2 + 1),
    "nested roots": sp.sqrt(a + sp.sqrt(a + b)) ** 4 - (a + sp.sqrt(a + b)) ** 2,
    "exponentials": sp.exp(x + y) / (1 + sp.exp(x + y)) - 1 / (1 + sp.exp(-x) * sp.exp(-y)),
    "rationalised": 1 / (sp.sqrt(a + 1) - sp.sqrt(a)) - (sp.sqrt(a + 1) + sp.sqrt(a)),
}
DIFFERENT = {
    "sign under a root": sp.sqrt(x**2) - x,
    "factor": sp.sqrt(2) * sp.sqrt(a**2 + b**2) - sp.sqrt(a**2 + b**2),
    "exponent": sp.exp(2 * x) - sp.exp(x),
    "tiny": a * sp.Rational(1, 10**12),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_are_proved_and_have_no_counterexample(name):
    assert counterexample(IDENTITIES[name]) is None
    assert is_zero(IDENTITIES[name])


@pytest.mark.parametrize("name", DIFFERENT)
def test_differences_are_refuted_and_not_proved(name):
    assert not is_zero(DIFFERENT[name])


@pytest.mark.parametrize("name", ["factor", "exponent", "tiny"])
def test_a_counterexample_names_a_point_where_the_value_is_not_zero(name):
    point, value = counterexample(DIFFERENT[name])
    assert abs(sp.N(DIFFERENT[name].subs(point)) - value) < 1e-5 * abs(value)

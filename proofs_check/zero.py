"""Deciding whether a SymPy expression is identically zero: refute by numbers, prove by algebra.

An expression is first evaluated at random points: a value away from zero is a counterexample and ends the matter in
milliseconds. Nothing is ever *proved* by numbers. The proof turns the expression into a rational function of
independent generators (symbols, e^monomial, sqrt(P) with its relation sqrt(P)^2 = P) and shows that its numerator
reduces to the zero polynomial.
"""

from __future__ import annotations

import random
from functools import lru_cache

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

DIGITS = 40
SAMPLES = 3


def opaque_to_dummies(expression: sp.Expr) -> sp.Expr:
    """Replace sums, indexed symbols, undefined functions and their derivatives by positive symbols, outermost first."""

    def is_opaque(node: sp.Basic) -> bool:
        undefined = isinstance(node, AppliedUndef) and isinstance(node.func, UndefinedFunction)
        return undefined or isinstance(node, sp.Sum | sp.Indexed | sp.Derivative | sp.Integral | sp.Subs)

    found: dict[sp.Basic, sp.Symbol] = {}

    def visit(node: sp.Basic) -> None:
        if is_opaque(node):
            found.setdefault(node, sp.Dummy(positive=True))
            return
        for argument in node.args:
            visit(argument)

    visit(expression)
    return expression.xreplace(found)


def random_point(expression: sp.Expr, source: random.Random) -> dict[sp.Symbol, sp.Rational]:
    """A rational value in [1/4, 2] for every free symbol, negative half the time where its assumptions allow it.

    Whole-number symbols get 2 to 5.
    """
    point = {}
    for symbol in sorted(expression.free_symbols, key=lambda s: s.sort_key()):
        value = sp.Rational(source.randint(25, 200), 100)
        if symbol.is_integer:
            value = sp.Integer(source.randint(2, 5))
        elif symbol.is_positive is None and source.random() < 0.5:
            value = -value
        point[symbol] = value
    return point


@lru_cache(maxsize=4096)
def counterexample(expression: sp.Expr, seed: int = 0) -> tuple[dict[sp.Symbol, sp.Rational], sp.Float] | None:
    """A point at which ``expression`` is not zero, with its value there; None if none of a few random points is one."""
    expression = opaque_to_dummies(sp.sympify(expression))
    source = random.Random(seed)
    for _ in range(SAMPLES):
        point = random_point(expression, source)
        value = sp.N(expression.subs(point), DIGITS, maxn=4 * DIGITS)
        if value.is_number and not value.has(sp.nan, sp.zoo) and abs(value) > sp.Float(10) ** (-DIGITS // 2):
            return point, sp.Float(sp.re(value), 6) if value.is_real else value
    return None


@lru_cache(maxsize=4096)  # a negative control repeats every step before the one that fails
def is_zero(expression: sp.Expr) -> bool:
    """True only if algebra reduces ``expression`` to 0."""
    expression = sp.sympify(expression)
    if expression == 0:
        return True
    numerator = _numerator(_with_generators(opaque_to_dummies(expression)))
    if numerator == 0:
        return True
    return bool(sp.simplify(expression) == 0)


def _with_generators(expression: sp.Expr) -> tuple[sp.Expr, dict[sp.Symbol, sp.Expr]]:
    """The expression as a rational function of symbols, and the squares of those that stand for square roots."""
    generators: dict[sp.Expr, sp.Symbol] = {}

    def exponential(node: sp.Expr) -> sp.Expr:
        product = sp.Integer(1)
        for term in sp.Add.make_args(sp.expand(node.args[0])):
            count, monomial = term.as_coeff_Mul()
            if not count.is_integer:
                count, monomial = sp.Integer(1), term
            if count == term:  # a constant exponent has no monomial
                count, monomial = sp.Integer(1), term
            product *= generators.setdefault(sp.exp(monomial), sp.Dummy("E", positive=True)) ** count
        return product

    expression = expression.replace(lambda e: isinstance(e, sp.exp), exponential)
    expression = sp.expand_power_base(sp.expand_power_exp(expression))
    squares: dict[sp.Symbol, sp.Expr] = {}

    def is_root(node: sp.Basic) -> bool:
        return isinstance(node, sp.Pow) and isinstance(node.exp, sp.Rational) and node.exp.q == 2

    roots: dict[sp.Expr, sp.Symbol] = {}

    def root(node: sp.Pow) -> sp.Expr:
        product = sp.Integer(1)
        for factor, power in _root_factors(node.base):
            symbol = roots.setdefault(factor, sp.Dummy("r", positive=True))
            squares[symbol] = factor
            product *= factor ** (power // 2) * symbol ** (power % 2)
        return product ** (2 * node.exp)

    while True:
        nodes = [n for n in sp.preorder_traversal(expression) if is_root(n)]
        inner = [n for n in nodes if not any(is_root(m) for m in sp.preorder_traversal(n.base))]
        if not inner:
            return expression, squares
        expression = expression.xreplace({n: root(n) for n in inner})


@lru_cache(maxsize=4096)  # factoring the radicand is the slow part, and one proof meets few radicands
def _root_factors(radicand: sp.Expr) -> list[tuple[sp.Expr, int]]:
    """Factors with their powers whose roots may be taken one by one: primes and positive symbols, then all the rest."""
    base = sp.factor(sp.together(radicand))
    factors: list[tuple[sp.Expr, int]] = []
    rest = sp.Integer(1)
    for factor in sp.Mul.make_args(base):
        symbol, power = factor.as_base_exp()
        if factor.is_Rational and factor.is_positive:
            factors += [(sp.Integer(prime), count) for prime, count in sp.factorrat(factor).items()]
        elif symbol.is_Symbol and symbol.is_positive and power.is_Integer:
            factors.append((symbol, int(power)))
        else:
            rest *= factor
    return factors if rest == 1 else [*factors, (rest, 1)]


def _numerator(form: tuple[sp.Expr, dict[sp.Symbol, sp.Expr]]) -> sp.Expr:
    expression, squares = form
    numerator = sp.numer(sp.together(expression))
    for symbol in reversed(squares):  # a root under a root was found after the one inside it
        numerator = sp.expand(numerator)
        square, reduced = squares[symbol], sp.Integer(0)
        for power, coefficient in sp.collect(numerator, symbol, evaluate=False).items():
            degree = sp.degree(power, symbol) if power.has(symbol) else 0
            reduced += coefficient * square ** (degree // 2) * symbol ** (degree % 2)
        numerator = sp.numer(sp.together(reduced))
    return sp.expand(numerator)

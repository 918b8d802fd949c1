"""What a proof is made of: identities, signs and implications, each a recorded step that holds or raises.

A claim's ``prove(proof)`` receives the functions under proof as ``proof.f`` and derives from the loss what each must
be. The same routine therefore runs for the real functions and for those with an error planted by a negative control.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sympy as sp

from proofs_check.formulas import Formulas
from proofs_check.zero import counterexample, is_zero

EXACT = "algebra"
SIGNS = "sign analysis"
SMT = "z3 (nlsat)"
INDUCTION = "induction"
TAYLOR = "Taylor expansion"


class ProofError(Exception):
    """A step does not hold. The message names the step, the function at fault and a counterexample if there is one."""


class ProofCrash(ProofError):
    """A step could not even be carried out, for example because a function no longer takes symbols.

    The proof fails, but nothing is refuted: a negative control that ends like this does not count as rejected.
    """


@dataclass(frozen=True)
class Step:
    """One line of a derivation, for the reports: what was shown, its formula (LaTeX, may be empty), and how."""

    text: str
    latex: str
    method: str


@dataclass
class Proof:
    """Collects the steps of one proof of one claim."""

    f: Formulas
    steps: list[Step] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The methods that the steps used, each named once, in order of appearance."""
        return ", ".join(dict.fromkeys(step.method for step in self.steps if step.method))

    def _of(self, formula: str) -> str:
        return f" [{self.f.home(formula)}]" if formula else ""

    @contextmanager
    def blaming(self, text: str) -> Iterator[None]:
        """Turn any other exception into a :class:`ProofCrash` that says where it came from."""
        try:
            yield
        except ProofError:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise ProofCrash(
                f"{text}: {type(error).__name__}: {error} (in {where.name}, {Path(where.filename).name}:{where.lineno})"
            ) from error

    def note(self, text: str, latex: str = "", method: str = "") -> None:
        """A definition or a remark: recorded, nothing checked."""
        self.steps.append(Step(text, latex, method))

    def equal(
        self, text: str, derived: Any, claimed: Any, formula: str = "", latex: str = "", method: str = EXACT
    ) -> None:
        """``derived`` (from the loss) and ``claimed`` (from the function under proof) are the same expression.

        Args:
            text: what the step says.
            derived, claimed: SymPy expressions or sequences of them of one length.
            formula: name of the function in :mod:`toymodels.theory` that gave ``claimed``.
            latex: how the report writes the step.

        Raises:
            ProofError: they differ, with a point at which they do, or could not be shown to be equal.
        """
        left, right = _listed(derived), _listed(claimed)
        if len(left) != len(right):
            raise ProofError(f"{text}{self._of(formula)}: {len(right)} values where there should be {len(left)}")
        for a, b in zip(left, right, strict=True):
            difference = sp.sympify(a) - sp.sympify(b)
            found = counterexample(difference)
            if found is not None:
                point = ", ".join(f"{name} = {value}" for name, value in found[0].items() if "Dummy" not in repr(name))
                raise ProofError(f"{text}{self._of(formula)}: off by {found[1]} at {point or 'every point'}")
            if not is_zero(difference):
                raise ProofError(f"{text}{self._of(formula)}: the difference was not reduced to zero")
        self.steps.append(Step(text, latex, method))

    def sign(self, text: str, expression: Any, formula: str = "", latex: str = "", at_least: bool = False) -> None:
        """``expression`` is positive (``at_least``: non-negative) under the assumptions of its symbols."""
        form = sp.factor(sp.sympify(expression))
        holds = form.is_nonnegative if at_least else form.is_positive
        if not holds:
            form = sp.factor(sp.expand(form))
            holds = form.is_nonnegative if at_least else form.is_positive
        if not holds:
            wanted = ">= 0" if at_least else "> 0"
            raise ProofError(
                f"{text}{self._of(formula)}: {form} {wanted} does not follow from the signs of its factors"
            )
        self.steps.append(Step(text, latex, SIGNS))

    def implies(
        self, text: str, assumptions: Sequence[Any], conclusion: Any, formula: str = "", latex: str = ""
    ) -> None:
        """z3 finds no real numbers that satisfy the assumptions and not the conclusion (polynomials and fractions)."""
        import z3

        solver = z3.Solver()
        solver.set("timeout", 20000)
        variables: dict[sp.Symbol, Any] = {}
        for condition in assumptions:
            solver.add(_to_z3(sp.sympify(condition), variables))
        solver.add(z3.Not(_to_z3(sp.sympify(conclusion), variables)))
        solver.add(*(v > 0 for s, v in variables.items() if s.is_positive))
        verdict = solver.check()
        if verdict == z3.sat:
            model = solver.model()
            point = ", ".join(f"{s} = {model.eval(v, model_completion=True)}" for s, v in variables.items())
            raise ProofError(f"{text}{self._of(formula)}: fails at {point}")
        if verdict != z3.unsat:
            raise ProofError(f"{text}{self._of(formula)}: z3 gave no answer ({solver.reason_unknown()})")
        self.steps.append(Step(text, latex, SMT))

    def is_true(self, text: str, condition: bool, formula: str = "", latex: str = "", method: str = EXACT) -> None:
        """Record a check made outside this class, such as the value of a limit."""
        if not condition:
            raise ProofError(f"{text}{self._of(formula)}: does not hold")
        self.steps.append(Step(text, latex, method))


def _listed(value: Any) -> list[Any]:
    return [x for item in value for x in _listed(item)] if isinstance(value, tuple | list) else [value]


def _to_z3(expression: sp.Basic, variables: dict[sp.Symbol, Any]) -> Any:
    """A condition between rational functions as a z3 term over the reals; whole powers only."""
    import z3

    def convert(node: sp.Basic) -> Any:
        return _to_z3(node, variables)

    if isinstance(expression, sp.Symbol):
        return variables.setdefault(expression, z3.Real(f"{expression.name}#{len(variables)}"))
    if isinstance(expression, sp.Rational):
        return z3.RealVal(f"{expression.p}/{expression.q}")
    if isinstance(expression, sp.Add):
        return z3.Sum([convert(a) for a in expression.args])
    if isinstance(expression, sp.Mul):
        return z3.Product([convert(a) for a in expression.args])
    if isinstance(expression, sp.Pow) and expression.exp.is_Integer:
        base = convert(expression.base)
        product = z3.Product([base] * abs(int(expression.exp)))
        return product if expression.exp > 0 else 1 / product
    relations: Mapping[type, Any] = {
        sp.StrictGreaterThan: lambda a, b: a > b,
        sp.GreaterThan: lambda a, b: a >= b,
        sp.StrictLessThan: lambda a, b: a < b,
        sp.LessThan: lambda a, b: a <= b,
        sp.Equality: lambda a, b: a == b,
    }
    if type(expression) in relations:
        return relations[type(expression)](*(convert(a) for a in expression.args))
    if isinstance(expression, sp.And):
        return z3.And([convert(a) for a in expression.args])
    if isinstance(expression, sp.Or):
        return z3.Or([convert(a) for a in expression.args])
    if isinstance(expression, sp.Not):
        return z3.Not(convert(expression.args[0]))
    if isinstance(expression, sp.Equivalent):
        return convert(expression.args[0]) == convert(expression.args[1])
    if expression in (sp.true, sp.false):
        return z3.BoolVal(bool(expression))
    raise TypeError(f"not a polynomial condition: {expression}")

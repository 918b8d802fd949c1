"""A claim: its statement, its proof, and the tests of that proof; and the result of checking it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath

from proofs_check import witness as numbers
from proofs_check.formulas import Formula, Formulas
from proofs_check.proof import Proof, ProofCrash, ProofError, Step
from proofs_check.simulation import Simulation
from proofs_check.witness import Draw, Pairs

PAPER = "Springer, Nagarajan, Raghunathan, ICLR 2024 (arXiv 2405.20439)"
DERIVED = "derived here"


@dataclass(frozen=True)
class Control:
    """A planted error: ``replaced`` maps names of functions to wrong versions of them."""

    error: str
    replaced: Mapping[str, Formula]


@dataclass(frozen=True)
class Rejection:
    """The result of a negative control: ``found`` says where the proof failed; it is empty if the proof passed."""

    error: str
    found: str

    @property
    def rejected(self) -> bool:
        """Whether the planted error was seen."""
        return bool(self.found)


@dataclass(frozen=True)
class Claim:
    """A numbered statement about ``toymodels.theory`` with its proof, negative controls, witness and simulation.

    Args:
        id: "C1", "C2", ...; any other name for a claim of one's own.
        title: a few words.
        statement: plain text.
        latex: the statement as formulas, one per line.
        assumptions: everything the proof needs.
        source: paper and section, or "derived here".
        proof: derives the functions from the loss step by step; raises :class:`ProofError` where it cannot.
        controls: errors that the proof must not survive.
        witness: pairs of fifty-digit numbers that must agree, one from the functions, one from the loss.
        simulation: a run of the reference engine against the functions.
        remark: common mistakes and exceptions, if any.
        functions: functions under proof that are not in ``toymodels.theory``, by name.
    """

    id: str
    title: str
    statement: str
    latex: Sequence[str]
    assumptions: Sequence[str]
    proof: Callable[[Proof], None]
    controls: Sequence[Control]
    witness: Callable[[Draw], Pairs]
    simulation: Callable[[], Simulation]
    source: str = DERIVED
    remark: str = ""
    functions: Mapping[str, Formula] = field(default_factory=dict)

    def prove(self, replaced: Mapping[str, Formula] | None = None) -> Proof:
        """Run the proof; with ``replaced``, run it with those functions in the place of the theory's.

        Raises:
            ProofError: names the step and the function that does not hold.
        """
        proof = Proof(Formulas(replaced, self.functions))
        with proof.blaming(self.id):
            self.proof(proof)
        return proof

    def negative_control(self) -> list[Rejection]:
        """Run the same proof once for each planted error. Only a step that is shown to be false rejects it."""
        rejections = []
        for control in self.controls:
            try:
                self.prove(control.replaced)
            except ProofCrash:
                rejections.append(Rejection(control.error, ""))
            except ProofError as found:
                rejections.append(Rejection(control.error, str(found)))
            else:
                rejections.append(Rejection(control.error, ""))
        return rejections

    def witness_error(self) -> Any:
        """Largest error of the numerical witness, an mpmath number."""
        return numbers.max_error(self.witness)


@dataclass(frozen=True)
class CheckedClaim:
    """The result of checking a claim. ``failures`` says where it failed; it is empty for a proved claim."""

    claim: str
    failures: list[str]
    method: str = ""
    steps: list[Step] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    witness_max_error: float = float("inf")
    simulation: Simulation | None = None
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Proof, every control, witness and simulation all as they must be."""
        return not self.failures

    @property
    def status(self) -> str:
        """ "proved" or "failed"."""
        return "proved" if self.proved else "failed"


def check(claim: Claim) -> CheckedClaim:
    """Prove a claim, run its negative controls, its witness and its simulation."""
    started = time.perf_counter()
    failures: list[str] = []
    proof: Proof | None = None
    try:
        proof = claim.prove()
    except ProofError as error:
        failures.append(f"proof: {error}")
    rejections = claim.negative_control() if proof is not None else []
    failures += [f"control not rejected: {r.error}" for r in rejections if not r.rejected]
    try:
        witness_error = claim.witness_error()
        if not witness_error < numbers.LIMIT:
            failures.append(
                f"witness: error {mpmath.nstr(witness_error, 3)}, allowed below {mpmath.nstr(numbers.LIMIT, 3)}"
            )
    except (ValueError, TypeError, ZeroDivisionError, ArithmeticError) as problem:
        witness_error = mpmath.inf
        failures.append(f"witness: {type(problem).__name__}: {problem}")
    simulation: Simulation | None = None
    try:
        simulation = claim.simulation()
        if not simulation.error <= simulation.bound:
            failures.append(
                f"simulation: error {simulation.error:.3g}, allowed {simulation.bound:.3g} ({simulation.reason})"
            )
    except (ValueError, TypeError, ZeroDivisionError, ArithmeticError) as problem:
        failures.append(f"simulation: {type(problem).__name__}: {problem}")
    return CheckedClaim(
        claim=claim.id,
        failures=failures,
        method=proof.method if proof else "",
        steps=proof.steps if proof else [],
        functions=sorted(proof.f.used) if proof else [],
        rejections=rejections,
        witness_max_error=float(witness_error),
        simulation=simulation,
        seconds=time.perf_counter() - started,
    )

"""exp, log, sqrt and Ei that take floats, NumPy arrays, mpmath numbers and SymPy expressions alike.

They let one formula serve the plots (arrays), the proofs (symbols) and the fifty-digit checks (mpmath). SymPy and
mpmath are only imported when an argument of theirs comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scalar = Any
"""A float, an array, an mpmath number or a SymPy expression: formulas are written with + - * / ** on any of them."""


Features = Sequence[Any] | NDArray[Any]
"""One Scalar per feature (or per atom): a tuple, a list, or an array whose first axis runs over them."""


def _library(*values: Scalar) -> Any:
    if any(hasattr(value, "free_symbols") for value in values):
        import sympy

        return sympy
    if any(hasattr(value, "_mpf_") or hasattr(value, "_mpc_") for value in values):
        import mpmath

        return mpmath
    return np


def exp(x: Scalar) -> Scalar:
    """e^x."""
    return _library(x).exp(x)


def log(x: Scalar) -> Scalar:
    """Natural logarithm."""
    return _library(x).log(x)


def sqrt(x: Scalar) -> Scalar:
    """Non-negative square root."""
    return _library(x).sqrt(x)


def root(x: Scalar, degree: int) -> Scalar:
    """Positive ``degree``-th root of a positive x."""
    return exp(log(x) / degree)


def root_two(*like: Scalar) -> Scalar:
    """sqrt(2) in the arithmetic of ``like``: exact beside SymPy symbols, to full precision beside mpmath numbers."""
    return _library(*like).sqrt(2)


def exponential_integral(x: Scalar) -> Scalar:
    """Ei(x), the exponential integral with d Ei/dx = e^x / x."""
    library = _library(x)
    if library is np:
        from scipy.special import expi

        return expi(x)
    return library.Ei(x) if library.__name__ == "sympy" else library.ei(x)


def sigmoid(x: Scalar) -> Scalar:
    """1 / (1 + e^-x)."""
    library = _library(x)
    if library is np:
        # The exponent is never positive, so that nothing overflows and small values keep their relative precision.
        decay = np.exp(-np.abs(x))
        return np.where(np.greater_equal(x, 0), 1.0, decay) / (1.0 + decay)
    return 1 / (1 + library.exp(-x))


def logit(x: Scalar) -> Scalar:
    """log(x / (1 - x)), the inverse of :func:`sigmoid`."""
    return log(x / (1 - x))


def root_sum_of_squares(values: Any) -> Scalar:
    """sqrt(sum of squares) over a sequence of scalars (features), not over an array's axis."""
    return sqrt(sum(value**2 for value in values))

"""``train``: the one entry to all engines. It chooses an engine and checks that the engine supports the problem.

=============  ====================================  ===================
engine         runs on                               precision
=============  ====================================  ===================
``triton``     GPUs, a whole training per launch     float32, float64
``cpu``        all CPUs, by the native C++ module    float32, float64
``reference``  NumPy, readable and slow              float64
=============  ====================================  ===================

All engines give the same results up to rounding; see their modules for what is bit-exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from kernels import cpu, reference
from kernels.gpu import engine as triton_engine
from kernels.names import ENGINES, PRECISIONS
from kernels.problem import TrainingProblem, TrainingResult
from sambalance_tools.checks import Unavailable, require_choice, require_whole
from sambalance_tools.progress import Progress


@dataclass(frozen=True)
class _Engine:
    """What ``train`` needs to know of an engine."""

    precisions: tuple[str, ...]
    """The first is its default."""
    unavailable: Callable[[], str | None]
    lacks: Callable[[TrainingProblem], str | None]
    run: Callable[[TrainingProblem, str, int | None, Progress | None], TrainingResult]
    pays: Callable[[TrainingProblem], bool] = lambda problem: True
    """Whether "auto" should consider the engine for a problem. If not, no warning is given."""


def _run_reference(
    problem: TrainingProblem, precision: str, threads: int | None, progress: Progress | None
) -> TrainingResult:
    return reference.train(problem, progress)


def _run_triton(
    problem: TrainingProblem, precision: str, threads: int | None, progress: Progress | None
) -> TrainingResult:
    return triton_engine.train(problem, precision, progress)


# In the order in which "auto" prefers them.
_ENGINES = {
    triton_engine.NAME: _Engine(
        triton_engine.PRECISIONS, triton_engine.unavailable, triton_engine.lacks, _run_triton, triton_engine.pays
    ),
    cpu.NAME: _Engine(PRECISIONS, cpu.unavailable, cpu.lacks, cpu.train),
    reference.NAME: _Engine(("float64",), lambda: None, reference.lacks, _run_reference),
}

_warned_of_fallback = False


def available_engines() -> tuple[str, ...]:
    """Names of the engines that can run here, the preferred one first."""
    return tuple(name for name, engine in _ENGINES.items() if engine.unavailable() is None)


def require_engine(engine: str) -> None:
    """Check, before any work is done, that an engine can be used here.

    Raises:
        ValueError: there is no engine of this name.
        Unavailable: it cannot run here.
    """
    require_choice("engine", engine, ("auto", *ENGINES))
    reason = None if engine == "auto" else _ENGINES[engine].unavailable()
    if reason is not None:
        raise Unavailable(f"engine={engine!r} is not available: {reason}")


def train(
    problem: TrainingProblem,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Run all trainings of ``problem``.

    Args:
        problem: the batch of trainings.
        engine: ``"triton"``, ``"cpu"``, ``"reference"``, or ``"auto"``: the first of these that is available and lacks
            nothing that the problem and ``precision`` need (triton: only if the problem is large enough).
        precision: ``"float32"`` or ``"float64"``; None is the engine's default (reference: float64, others: float32).
        threads: worker threads of the cpu engine. Default: the first number in ``OMP_NUM_THREADS``, else the CPUs that
            the process may run on. The other engines ignore it.
        progress: called with (steps done, steps in all) now and then; what it raises stops the training.

    Returns:
        A :class:`~kernels.problem.TrainingResult`; its ``engine`` and ``precision`` say what ran.

    Raises:
        ValueError: an argument is not among what is allowed, or the engine lacks what the problem asks for.
        Unavailable: a RuntimeError; the engine requested by name is not available here.

    Example:
        >>> import numpy as np
        >>> problem = TrainingProblem(
        ...     features=np.array([[[2.0, 1.0]]]), labels=np.array([[1.0]]),
        ...     initial_layers=(np.full((3, 2), 0.4), np.full((3, 2), 0.4)),
        ...     eta=0.05, rho=[0.0, 0.3, 0.5], steps=100)
        >>> result = train(problem)
        >>> result.coefficients.shape
        (3, 2)
    """
    if not isinstance(problem, TrainingProblem):
        raise ValueError(f"problem={problem!r}; allowed: a TrainingProblem")
    require_choice("engine", engine, ("auto", *ENGINES))
    if progress is not None and not callable(progress):
        raise ValueError(f"progress={progress!r}; allowed: a function of (steps done, steps in all), or None")
    if precision is not None:
        require_choice("precision", precision, PRECISIONS)
    if threads is not None:
        require_whole("threads", threads, least=1)
    name = _choose(problem, precision) if engine == "auto" else engine
    chosen = _ENGINES[name]
    shortcoming = _shortcoming(name, problem, precision)
    if shortcoming is not None:
        able = [other for other in _ENGINES if _shortcoming(other, problem, precision) is None]
        raise ValueError(
            f"engine={name!r} does not support {shortcoming}; engines that do: {', '.join(able) or 'none'}"
        )
    reason = chosen.unavailable()
    if reason is not None:
        raise Unavailable(f"engine={name!r} is not available: {reason}")
    return chosen.run(problem, precision or chosen.precisions[0], threads, progress)


def _shortcoming(name: str, problem: TrainingProblem, precision: str | None) -> str | None:
    """What the engine lacks for this call, or None."""
    engine = _ENGINES[name]
    if precision is not None and precision not in engine.precisions:
        return f"precision={precision!r}"
    return engine.lacks(problem)


def _choose(problem: TrainingProblem, precision: str | None) -> str:
    """The first engine that is available and can do it; a warning, once, where the fast one is not available."""
    global _warned_of_fallback
    paying = [name for name, engine in _ENGINES.items() if engine.pays(problem)]
    able = [name for name in paying if _shortcoming(name, problem, precision) is None]
    skipped = None
    for name in able:
        reason = _ENGINES[name].unavailable()
        if reason is None:
            if skipped is not None and not _warned_of_fallback:
                _warned_of_fallback = True
                warnings.warn(f"using the slow engine {name!r}: {skipped}", RuntimeWarning, stacklevel=3)
            return name
        skipped = f"engine {name!r} is not available: {reason}"
    # None is left: `train` says what the best of them lacks.
    return able[0] if able else available_engines()[0]

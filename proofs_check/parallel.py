"""Checking claims in several processes, clean under Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from proofs_check.claim import CheckedClaim, Claim, check


def check_all(claims: Sequence[Claim], jobs: int, module: Path | None = None) -> Iterator[CheckedClaim]:
    """Outcomes in the order of ``claims``, each as soon as it and those before it are there.

    ``module`` is the file that the claims are from, None for those of the theory.
    """
    if jobs == 1 or len(claims) == 1:
        yield from _with_progress(map(check, claims), len(claims))
        return
    # One BLAS thread per process: the matrices are tiny and more threads only fight over the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pool = multiprocessing.get_context("spawn").Pool(min(jobs, len(claims)), initializer=_leave_interrupts_to_parent)
    try:
        yield from _with_progress(pool.imap(_check_by_id, [(claim.id, module) for claim in claims]), len(claims))
        pool.close()
    except BaseException:
        pool.terminate()
        raise
    finally:
        pool.join()


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check_by_id(task: tuple[str, Path | None]) -> CheckedClaim:
    # By name, since the functions of a claim cannot be sent to another process.
    from proofs_check.registry import all_claims, own_claims

    name, module = task
    return check((all_claims() if module is None else own_claims(module))[name])


def _with_progress(outcomes: Iterator[CheckedClaim], total: int) -> Iterator[CheckedClaim]:
    """Show the progress on stderr if it is a terminal."""
    shown = sys.stderr.isatty()
    for done in range(total):
        if shown:
            print(f"\r{done}/{total} ", end="", file=sys.stderr, flush=True)
        outcome = next(outcomes)
        if shown:
            print("\r" + " " * 12 + "\r", end="", file=sys.stderr, flush=True)
        yield outcome

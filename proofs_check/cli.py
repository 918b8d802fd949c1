"""The command line: ``python -m proofs_check [--claim C7] [--module FILE.py] [--json FILE] ...``.

Heavy imports (SymPy, SciPy, Matplotlib) wait until they are needed, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sambalance_tools.command_line import OneLineParser

if TYPE_CHECKING:
    from proofs_check.claim import CheckedClaim, Claim

DESCRIPTION = """\
Prove every claim of docs/theory.md from the loss, with the functions of toymodels.theory that the figures use.
Each claim has a proof, negative controls (planted errors that the proof must reject), a numerical witness with
fifty digits, and a simulation by the reference engine. Exit status: 0 if all claims are proved, 1 if one fails,
2 for wrong usage."""


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="python -m proofs_check", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="ID",
        help="check only this claim, such as C7; may be given several times",
    )
    parser.add_argument(
        "--module",
        type=Path,
        metavar="FILE.py",
        help="check the claims of this Python file (its list CLAIMS) instead of the theory's; the file is run",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report to read, as one self-contained file")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write claims and derivations as a LaTeX document")
    parser.add_argument(
        "-j",
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one per CPU)",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also print why each negative control was rejected"
    )
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. SystemExit(1) if a claim is not proved; ValueError or OSError for what cannot be done."""
    options = _parser().parse_args(arguments)
    from sambalance_tools.files import check_writable

    for path in (options.json, options.html, options.latex):
        if path is not None:
            check_writable(path)
    from proofs_check.registry import select

    claims = select(options.claim, options.module)
    outcomes = list(_reported(claims, options))
    _write_reports(options, claims, outcomes)
    failed = [o.claim for o in outcomes if not o.proved]
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} claims proved"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    if failed:
        raise SystemExit(1)


def _reported(claims: Sequence[Claim], options: argparse.Namespace) -> Iterator[CheckedClaim]:
    """Check the claims and print a row for each, in order, as soon as it is there."""
    from proofs_check.parallel import check_all

    print(f"{'claim':<6} {'status':<8} {'method':<48} {'seconds':>8}")
    for outcome in check_all(claims, options.jobs, options.module):
        print(f"{outcome.claim:<6} {outcome.status:<8} {outcome.method or '-':<48} {outcome.seconds:>8.2f}", flush=True)
        for failure in outcome.failures:
            print(f"       {failure}")
        if options.verbose:
            for rejection in outcome.rejections:
                print(f"       control ({rejection.error}): {rejection.found or 'NOT REJECTED'}")
        yield outcome


def _write_reports(options: argparse.Namespace, claims: Sequence[Claim], outcomes: Sequence[CheckedClaim]) -> None:
    from sambalance_tools.files import write_text

    if options.json is not None:
        from proofs_check.report_json import json_report

        write_text(options.json, json_report(claims, outcomes))
    if options.latex is not None:
        from proofs_check.report_latex import latex_report

        write_text(options.latex, latex_report(claims, outcomes))
    if options.html is not None:
        from proofs_check.report_html import html_report

        write_text(options.html, html_report(claims, outcomes))

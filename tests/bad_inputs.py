"""Several hundred bad command lines and bad calls: each ends in one clear line, with nothing half written.

    python tests/bad_inputs.py                  all of them; exit status 1 if one does not say what it should
    python tests/bad_inputs.py realdata sweep   those whose text holds these words
    python tests/bad_inputs.py --show SAM       also what each of them says

To add one, add a line to a table below (support/bad_input_cases.py has the notation). A command line has to end with
status 2 and one line, ``error: MESSAGE``, and to leave no file. A call has to raise a ValueError, or the error that the
line names (``TypeError: ...``), and to warn of nothing. Every case runs in a child of one process that has imported
everything, with a time limit, a limit on memory and a folder of its own.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", MPLBACKEND="Agg")
for variable in ("SAMBALANCE_DATA", "TRITON_INTERPRET"):
    os.environ.pop(variable, None)

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from support import bad_calls, bad_command_lines  # noqa: E402
from support.bad_input_cases import Case, fault, run_all  # noqa: E402


def all_cases() -> dict[str, list[Case]]:
    """The cases of each kind."""
    return {"command lines": bad_command_lines.cases(), "calls": bad_calls.cases()}


def main(words: list[str]) -> int:
    """Run the cases and print what is wrong; returns the exit status."""
    show = "--show" in words
    words = [word for word in words if word != "--show"]
    kinds = all_cases()
    kind_of = {id(case): kind for kind, cases in kinds.items() for case in cases}
    chosen = [case for cases in kinds.values() for case in cases if all(word in case.text for word in words)]
    tried, wrong, slowest = Counter[str](), Counter[str](), (0.0, "")
    for case, ended in run_all(chosen, at_once=len(os.sched_getaffinity(0))):
        kind = kind_of[id(case)]
        tried[kind] += 1
        slowest = max(slowest, (ended.seconds, case.text))
        if show:
            print(f"{case.text}\n    {(ended.stdout if case.on_stdout else ended.stderr).strip()}")
        reason = fault(case, ended)
        if reason:
            wrong[kind] += 1
            print(f"WRONG  {case.text}\n       {reason}", flush=True)
    for kind in kinds:
        print(f"{tried[kind]} {kind}, {wrong[kind]} wrong")
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}")
    return int(bool(wrong) or not tried)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

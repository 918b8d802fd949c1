"""The tests that compare numbers, once more with the arithmetic of an older processor.

A sum is rounded differently on another processor: OpenBLAS, NumPy, torch (its own loops, MKL and oneDNN) and our engine
each choose their code by the instruction sets that they find. A comparison that is too strict can therefore pass on the
machine where it was written and fail for a user. All of these can be told to use the code of an older processor, and
this script tells all of them at once. The code of a newer processor cannot be had this way.

Run by ``.ci/run`` in the environment that has the tests' packages:

    python .ci/foreign_processors.py              this processor's x86-64 level less one
    python .ci/foreign_processors.py "no AVX2"    an older one by its name
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kernels import cpu

ROOT = Path(__file__).resolve().parents[1]

COMPARE_NUMBERS = {
    "tests/kernels": "engines reference_gradients reference_rules sam sam_passes sam_training sampling",
    "tests/toymodels": (
        "accuracy beyond closed_forms data filter flow integrate metrics networks probe simulation step_size"
    ),
    "tests/realdata": (
        "embeddings evaluate feature_heads feature_probe feature_table filter_gains group_accuracy image_models"
        " linear_probe measure measure_rows training_batches weights"
    ),
}
"""Files by folder, without ``test_`` and ``.py``. Not here: command lines, figures and pages, processes, data sets."""
SINGLE_TESTS = (
    "tests/realdata/test_train.py::test_training_is_a_plain_loop_written_by_hand",
    "tests/toymodels/test_phase_diagram.py::test_simulation_and_theory_agree",
    "tests/toymodels/test_phase_diagram.py::test_the_small_diagram_is_the_golden_one",
    "tests/toymodels/test_validate.py::test_no_configuration_exceeds_three_times_its_predicted_error",
)


@dataclass(frozen=True)
class Processor:
    """An older processor, by the name that each library has for it."""

    openblas: str
    torch: str
    mkl: str
    onednn: str
    engine: str
    numpy_lacks: tuple[str, ...]
    """How the names of the instruction sets begin that NumPy may not use; since 2.4 it names levels of x86-64."""

    def environment(self) -> dict[str, str]:
        return {
            "OPENBLAS_CORETYPE": self.openblas,
            "ATEN_CPU_CAPABILITY": self.torch,
            "MKL_CBWR": self.mkl,
            "ONEDNN_MAX_CPU_ISA": self.onednn,
            "SAMBALANCE_ISA": self.engine,
            "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in numpy_features() if f.startswith(self.numpy_lacks)),
        }


OLDER = {
    "AVX2": Processor("Haswell", "avx2", "AVX2", "AVX2", "v3", ("AVX512", "X86_V4")),
    # Nothing here multiplies and adds in one rounding.
    "no AVX2": Processor(
        "Sandybridge", "default", "COMPATIBLE", "SSE41", "v2", ("AVX512", "X86_V4", "AVX2", "FMA3", "X86_V3")
    ),
}
ONE_DOWN = {"v4": "AVX2", "v3": "no AVX2"}


def numpy_features() -> list[str]:
    """Names of the instruction sets by which this NumPy chooses its code on this processor."""
    try:
        from numpy._core import _multiarray_umath as core
    except ImportError:  # NumPy 1
        from numpy.core import _multiarray_umath as core
    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def report() -> None:
    """Print what is in force in this process, for :func:`require_in_force`."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    blas = {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
    print("OpenBLAS", *sorted(blas))
    print("torch", torch.backends.cpu.get_cpu_capability())
    print("NumPy", *numpy_features())
    print("engine", cpu.instruction_set())


def require_in_force(processor: Processor, environment: dict[str, str]) -> None:
    """Fail if a library took no notice: OpenBLAS and NumPy pass over names that they do not know."""
    command = [sys.executable, __file__, "--report"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    print(done.stdout, end="")
    found = dict(line.split(maxsplit=1) if " " in line else (line, "") for line in done.stdout.splitlines())
    wanted = {"OpenBLAS": processor.openblas, "torch": processor.torch, "engine": processor.engine}
    for library, name in wanted.items():
        if found[library].lower() != name.lower():
            sys.exit(f"foreign_processors: {library} uses {found[library]}, not {name}")
    if any(name.startswith(processor.numpy_lacks) for name in found["NumPy"].split()):
        sys.exit(f"foreign_processors: NumPy still uses {found['NumPy']}")


def main() -> None:
    if sys.argv[1:] == ["--report"]:
        report()
        return
    level = cpu.native().instruction_sets()[0]
    if level not in ONE_DOWN:
        print(f"{platform.machine()} {level}: there is no older processor to try here")
        return
    name = sys.argv[1] if len(sys.argv) > 1 else ONE_DOWN[level]
    if name not in OLDER:
        sys.exit(f"foreign_processors: {name!r}; allowed: {', '.join(map(repr, OLDER))}")
    processor = OLDER[name]
    environment = {**os.environ, **processor.environment()}
    print(f"this processor is {level}; the tests that compare numbers as on one with {name}")
    require_in_force(processor, environment)
    files = [f"{folder}/test_{name}.py" for folder, names in COMPARE_NUMBERS.items() for name in names.split()]
    # As in the Makefile: what a module's tests prepare for each other is prepared once.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "auto",
        "--maxprocesses",
        "8",
        "--dist",
        "loadscope",
        "-m",
        "not slow",
    ]
    done = subprocess.run([*command, *files, *SINGLE_TESTS], cwd=ROOT, env=environment)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

"""Installations that a developer's editable one does not try: without a compiler, and used outside the checkout.

One environment, as a user would meet it: first no compiler can be found, later there is one and ``pip install`` is run
again. Run by ``.ci/run`` from the root of the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--x", "rho=0:1:8", "--y", "ratio=0.2:0.8:8", "--seeds", "1", "--steps", "300"]
WARNING = "engine 'cpu' is not available"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        environment = {**os.environ, "SKBUILD_BUILD_DIR": str(folder / "build")}
        hidden = {**environment, "CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
        install = [str(python), "-m", "pip", "install", "--quiet"]

        run([*install, str(ROOT)], folder, hidden)
        for place in (folder, ROOT):
            engine, messages = diagram(python, place, folder / "out")
            require(engine == "reference", f"without a compiler the engine is {engine!r}, not 'reference'")
            warnings = messages.count(WARNING)
            require(warnings == 1, f"without a compiler there are {warnings} warnings instead of one:\n{messages}")
            require("C++17 compiler" in messages, f"the warning does not say what is missing:\n{messages}")
        print("no compiler: installed, reference engine, one warning")

        run([*install, "--force-reinstall", "--no-deps", str(ROOT)], folder, environment)
        for place in (folder, ROOT):
            engine, messages = diagram(python, place, folder / "out")
            require(engine == "cpu", f"started in {place} the engine is {engine!r}, not 'cpu':\n{messages}")
            require(not messages, f"started in {place} there are messages:\n{messages}")
        print("compiler found later: the same command compiles the cpu engine, in and outside the checkout")


def diagram(python: Path, place: Path, out: Path) -> tuple[str, str]:
    """Engine and standard error of a small phase diagram made in folder ``place``."""
    done = run([str(python), "-m", "toymodels.phase_diagram", *SMALL, "--out", str(out)], place, dict(os.environ))
    return str(json.loads((out / "summary.json").read_text())["engine"]), done.stderr


def run(command: list[str], place: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    require(done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done


def require(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"check_installations: {message}")


if __name__ == "__main__":
    main()

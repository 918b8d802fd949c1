"""The documents keep their promises: their snippets run, their links lead somewhere, their commands exist.

Of a document's fenced blocks, in order and in one scratch folder: ``bash`` is run by bash, ``python`` is run, ``pycon``
is a session whose outputs are compared. ``console`` shows commands that the tests do not run themselves: they install
things, or start these tests. ``.ci/run`` runs those of the README.

Commands that draw maps and trajectories are run in the tests' own process and small (:func:`small`): with all of their
options, but with fewer cells, seeds, steps and pixels. A large map proves no more.
"""

from __future__ import annotations

import doctest
import importlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.coarse_pictures import COARSE_DPI
from toymodels import plots
from toymodels.phase_diagram.__main__ import DEFAULT_X, DEFAULT_Y

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
RUNNABLE = ("bash", "python", "pycon")
GALLERY = ROOT / "docs" / "gallery.md"
SMALL = {
    "toymodels.filter": "--features 8",
    "toymodels.phase_diagram": "--seeds 1 --steps 400 --eta 0.1",
    "toymodels.trajectories": "--seeds 1 --steps 200 --eta 0.05",
    "toymodels.validate": "--configurations 55",
}
"""By module, options that make its commands quick; of an option given twice the last one counts."""
QUICK = ("filter", "phase_diagram", "phase_diagram --network relu", "phase_diagram --network patches --head local",
         "phase_diagram --metric advantage --compare effects", "trajectories")  # fmt: skip
"""How the gallery's commands begin of which one is run by ``make test``; the others are marked slow."""
CELLS = 6
"""Values that an axis has at most."""
AXIS = re.compile(r"(\w+=[^:]+:[^:]+):(\d+)(:log)?")


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of a document."""
    return BLOCK.findall(document.read_text(encoding="utf-8"))


def small(command: str) -> tuple[str, list[str]] | None:
    """Module and arguments of a command that the tests make small, or None for any other."""
    words = shlex.split(command)
    if words[:2] != ["python", "-m"] or words[2] not in SMALL:
        return None
    module, arguments = words[2], words[3:]
    if "--from" in arguments:  # as small as what it draws again
        return module, arguments
    if module == "toymodels.phase_diagram":
        arguments = ["--x", DEFAULT_X, "--y", DEFAULT_Y, *arguments]
    few = [AXIS.sub(lambda axis: f"{axis[1]}:{min(int(axis[2]), CELLS)}{axis[3] or ''}", word) for word in arguments]
    return module, [*few, *SMALL[module].split()]


def run_commands(text: str) -> None:
    """Run the lines of a ``bash`` block: commands of :data:`SMALL` small and in this process, the others by bash."""
    if "<<" in text:  # files are written in the shell's own way
        run_bash(text)
        return
    lines = text.strip().replace("\\\n", " ").splitlines()
    for is_small, group in itertools.groupby(lines, lambda line: small(line) is not None):
        if not is_small:
            run_bash("\n".join(group))
            continue
        for module, arguments in filter(None, map(small, group)):
            importlib.import_module(f"{module}.__main__").main(arguments)


def run_bash(text: str) -> None:
    """Run shell lines with the tests' own Python first on the path; the first failing line fails the test."""
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env={**os.environ, "PATH": binaries}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


def run_session(text: str, namespace: dict[str, object], name: str) -> None:
    """Run an interactive session and compare its outputs."""
    test = doctest.DocTestParser().get_doctest(text, namespace, name, None, None)
    report: list[str] = []
    results = doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert results.failed == 0, "".join(report)


@pytest.mark.parametrize(
    "document",
    [d for d in DOCUMENTS if d != GALLERY and any(language in RUNNABLE for language, _ in blocks(d))],
    ids=name_of,
)
def test_snippets_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "DPI", COARSE_DPI)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, text in blocks(document):
        if language == "bash":
            run_commands(text)
        elif language == "python":
            exec(compile(text, name_of(document), "exec"), namespace)
        elif language == "pycon":
            run_session(text, namespace, name_of(document))


def gallery() -> list[Any]:
    """The gallery's commands: the first of every beginning in :data:`QUICK`, and the others marked slow."""
    commands = [text.strip() for _, text in blocks(GALLERY)]
    quick = {next(c for c in commands if c.startswith(f"python -m toymodels.{beginning}")) for beginning in QUICK}
    return [pytest.param(c, marks=[] if c in quick else [pytest.mark.slow], id=c) for c in commands]


@pytest.mark.parametrize("command", gallery())
def test_commands_of_the_gallery_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``docs/make_gallery.py`` runs them as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "DPI", COARSE_DPI)
    run_commands(command)
    module = command.split()[2]
    assert list((tmp_path / "out" / module.partition(".")[2]).glob("*.png"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_to_files(document: Path) -> None:
    targets = [
        link.partition("#")[0] for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link
    ]
    missing = [target for target in targets if target and not (document.parent / target).exists()]
    assert not missing


def test_a_failing_snippet_fails() -> None:
    """The harness itself: a wrong output, a failing shell line in the middle."""
    with pytest.raises(AssertionError, match="Expected"):
        run_session(">>> 1 + 1\n3\n", {}, "planted")
    with pytest.raises(AssertionError, match="false"):
        run_bash("false\ntrue")


def test_small_commands_keep_their_options() -> None:
    """All but the number of cells, and what :data:`SMALL` says; other commands are left as they are."""
    given = "python -m toymodels.phase_diagram --data spurious --x rho=0.01:1:96:log --y p=0.6,0.9"
    assert small(given) == (
        "toymodels.phase_diagram",
        shlex.split(
            "--x rho=0:1:6 --y ratio=0.05:0.95:6 --data spurious --x rho=0.01:1:6:log --y p=0.6,0.9 "
            "--seeds 1 --steps 400 --eta 0.1"
        ),
    )
    again = "python -m toymodels.phase_diagram --from out/a.nc --metric hard_share"
    assert small(again) == ("toymodels.phase_diagram", again.split()[3:])
    assert small("python -m proofs_check --claim C7") is None
    assert small("ls out") is None


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_readme_commands_are_targets_of_the_makefile() -> None:
    readme = dict(reversed(blocks(ROOT / "README.md")))["console"]
    commands = readme.splitlines()
    assert commands == ["make phase-diagram", "make test"]
    for command in commands:
        done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "-m toymodels.phase_diagram" in done.stdout

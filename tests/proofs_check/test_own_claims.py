"""Claims of one's own from a file: checked like the theory's, and a file that has none is refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from proofs_check.cli import main
from proofs_check.registry import own_claims, select

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "own-claims.md"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The file of the how-to."""
    found = re.search(r"<<'FILE'\n(.*?)^FILE$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    path = tmp_path / "my_claims.py"
    path.write_text(found[1])
    return path


def test_the_claim_of_the_guide_is_proved_and_reported(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [tmp_path / name for name in ("out.json", "out.html", "out.tex")]
    options = [x for option, path in zip(("--json", "--html", "--latex"), reports, strict=True) for x in (option, path)]
    main(["--module", str(module), "-j", "1", "-v", *map(str, options)])
    printed = capsys.readouterr().out
    assert "1 of 1 claims proved" in printed
    assert "own_claims_my_claims.margin_speed" in printed, "a rejected control names the function's home"
    (row,) = json.loads(reports[0].read_text())
    assert (row["claim"], row["status"]) == ("SPEED", "proved")
    assert all("SPEED" in path.read_text() for path in reports)


def test_a_wrong_claim_fails_and_says_where(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = "return example_weight * sum(m**2 *"
    assert right in module.read_text()
    module.write_text(module.read_text().replace(right, "return example_weight * sum(m**3 *"))
    with pytest.raises(SystemExit, match="1"):
        main(["--module", str(module), "-j", "1"])
    printed = capsys.readouterr().out
    assert "Rate of the margin under gradient descent [own_claims_my_claims.margin_speed]: off by" in printed
    assert "failed: SPEED" in printed


@pytest.mark.slow
def test_several_processes_find_the_file_too(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = module.read_text()
    module.write_text(text + "\nfrom dataclasses import replace\nCLAIMS.append(replace(CLAIMS[0], id='AGAIN'))\n")
    main(["--module", str(module), "-j", "2"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["SPEED", "AGAIN"]


def test_claims_are_chosen_among_those_of_the_file(module: Path) -> None:
    assert [claim.id for claim in select(["speed"], module)] == ["SPEED"]
    with pytest.raises(ValueError, match="unknown claim C7; known: SPEED"):
        select(["C7"], module)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "allowed: a Python file"),
        ("x = 1", "CLAIMS=None; allowed: a list"),
        ("CLAIMS = []", r"CLAIMS=\[\]; allowed"),
        ("CLAIMS = [1]", r"CLAIMS=\[1\]; allowed"),
        ("1 / 0", r"fails when it is run \(ZeroDivisionError"),
        ("def", r"fails when it is run \(SyntaxError"),
        ("raise SystemExit(3)", r"fails when it is run \(SystemExit"),
        ("from proofs_check.claims.flows import CLAIMS", "a claim 'C4', which"),
    ],
)  # fmt: skip
def test_files_without_claims_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        own_claims(path)
    with pytest.raises(ValueError, match=message) as error:
        main(["--module", str(path)])
    assert "\n" not in str(error.value)

"""The command line: table, exit status, report files, errors."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest

import toymodels.theory as theory
from proofs_check.cli import main
from sambalance_tools.command_line import run_command

COMMAND = [sys.executable, "-m", "proofs_check"]


def status_of(arguments):
    """The exit status of the command."""
    with pytest.raises(SystemExit) as stop:
        run_command(main, arguments)
    return stop.value.code


def test_table_and_exit_status_of_a_proved_claim(capsys):
    main(["--claim", "C3", "--claim", "c12", "-j", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["claim", "status", "method", "seconds"]
    assert [line.split()[:2] for line in lines[1:3]] == [["C3", "proved"], ["C12", "proved"]]
    assert lines[-1] == "2 of 2 claims proved"


def test_a_failed_claim_gives_exit_status_1_and_says_where(capsys, monkeypatch):
    monkeypatch.setattr(theory, "suppression_factor", lambda ratio: 1 + ratio)
    with pytest.raises(SystemExit) as stop:
        main(["--claim", "C3", "-j", "1"])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "toymodels.theory.suppression_factor" in out
    assert out.splitlines()[-1] == "0 of 1 claims proved; failed: C3"


def test_unknown_claim_gives_exit_status_2(capsys):
    assert status_of(["--claim", "C99"]) == 2
    assert "unknown claim C99; known: C1, C2" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["0", "-3", "two"])
def test_jobs_must_be_a_positive_whole_number(jobs, capsys):
    assert status_of(["-j", jobs]) == 2
    assert "is not a whole number >= 1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--html", "--latex"])
def test_an_unwritable_path_is_found_before_the_work(option, tmp_path, capsys):
    started = time.perf_counter()
    assert status_of([option, str(tmp_path / "missing" / "out")]) == 2
    assert status_of([option, str(tmp_path)]) == 2
    assert time.perf_counter() - started < 1
    err = capsys.readouterr().err
    assert "there is no directory" in err
    assert "it is a directory" in err


def test_reports_of_two_processes(tmp_path, capsys):
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "html", "latex")}
    arguments = [x for name, path in paths.items() for x in (f"--{name}", str(path))]
    main(["--claim", "C3", "--claim", "C8", "-j", "2", *arguments])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.html", "out.json", "out.latex"]  # no temporary files
    rows = json.loads(paths["json"].read_text())
    assert [row["claim"] for row in rows] == ["C3", "C8"]
    wanted = {"claim", "statement", "status", "method", "negative_control", "witness_max_error", "seconds"}
    assert all(wanted <= set(row) for row in rows)
    assert all(control["rejected"] for row in rows for control in row["negative_control"])
    check_html(paths["html"].read_text())
    latex = paths["latex"].read_text()
    assert latex.count(r"\section*") == 2
    assert latex.count(r"\begin{enumerate}") == latex.count(r"\end{enumerate}") == 2


def check_html(text):
    """Every tag is closed, and nothing is loaded from elsewhere."""
    open_tags = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            source = dict(attrs).get("src", "data:")
            assert source.startswith("data:image/svg+xml;base64,") or source == "data:"
            if tag not in ("meta", "img", "br", "!doctype"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Reader().feed(text)
    assert open_tags == []
    assert "http" not in text.replace("https://", "http").split("</style>")[0]
    assert text.count("<section") == 2


def test_help_answers_at_once():
    subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)  # compile first
    assert min(processor_time([*COMMAND, "--help"]) for _ in range(3)) < 0.5


def processor_time(command):
    """Seconds of CPU that a command takes: unlike wall time it does not depend on what else the machine does."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_ends_cleanly_and_writes_nothing(tmp_path):
    out = tmp_path / "out.json"
    process = subprocess.Popen(
        [*COMMAND, "-j", "2", "--json", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("claim")
    process.stdout.readline()  # the first row: the work is under way
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []

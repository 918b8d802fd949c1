"""Axis expressions and errors of the command lines."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from kernels import engine
from kernels.names import ENGINES
from sambalance_tools.command_line import run_command
from toymodels.command_line import DEFAULT_COUNT, add_parameter_options, given_parameters, parse_axis


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("rho=0:1:5", "rho", [0, 0.25, 0.5, 0.75, 1]),
        ("rho=1:0:3", "rho", [1, 0.5, 0]),
        ("init=0.01:1:3:log", "init", [0.01, 0.1, 1]),
        ("rho=0.1,0.3,0.2", "rho", [0.1, 0.3, 0.2]),
        (" rho = 0.1 , 0.2 ", "rho", [0.1, 0.2]),
        ("rho=0.3", "rho", [0.3]),
        ("rho=0.3:0.3:1", "rho", [0.3]),
        ("width=2,4,8", "width", [2, 4, 8]),
        ("width=1:3:9", "width", [1, 2, 3]),
        ("width=1:100:3:log", "width", [1, 10, 100]),
    ],
)
def test_axes_are_read(text: str, name: str, values: list[float]) -> None:
    found_name, found = parse_axis(text, "--x")
    assert found_name == name
    np.testing.assert_allclose(found, values, rtol=1e-14, atol=1e-15)


def test_the_count_has_a_default_and_both_ends_are_exact() -> None:
    _, values = parse_axis("rho=0.1:0.7", "--x")
    assert len(values) == DEFAULT_COUNT
    assert (values[0], values[-1]) == (0.1, 0.7)
    _, values = parse_axis("rho=0.1:0.7:7:log", "--x")
    np.testing.assert_allclose(np.diff(np.log(values)), np.log(7) / 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rho", "has no '='"),
        ("rho=", "the axis is empty"),
        ("rho=,", "the axis is empty"),
        ("colour=0:1:3", "'colour' is not known; allowed: rho"),
        ("rho=a,b", "could not convert"),
        ("rho=0:x:3", "could not convert"),
        ("rho=0:1:three", "invalid literal"),
        ("rho=0:1:2.5", "invalid literal"),
        ("rho=0:1:0", "0 values"),
        ("rho=0:1:-4", "-4 values"),
        ("rho=1:1:4", "4 values from 1 to 1"),
        ("rho=0:1:3:log", "logarithmic spacing needs"),
        ("rho=0:1:3:cubic", "is not a count"),
        ("rho=0:1:3:4:log", "is not a count"),
        ("rho=-1:1:3", r"rho=-1\.0; allowed: a number >= 0"),
        ("rho=nan,0.1", "rho=nan"),
        ("p=0.5:1.5:3", r"p=1\.5; allowed: a number in \[0, 1\]"),
        ("width=0:4:5", r"width=0\.0; allowed: a whole number in \[1"),
        ("width=2,nan", "width"),
        ("width=2,inf", "width"),
        ("width=0:inf:3", "width"),
        ("width=2.5,4", "width=2.5; allowed: a whole number"),
    ],
)
def test_bad_axes_are_refused_with_the_fault(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_axis(text, "--x")


def test_the_help_names_every_engine() -> None:
    assert tuple(engine._ENGINES) == ENGINES


def test_only_given_parameters_are_passed_on() -> None:
    parser = argparse.ArgumentParser()
    add_parameter_options(parser, {"eta": 0.5})
    options = parser.parse_args(["--mu-easy", "3", "--steps", "20"])
    assert given_parameters(options) == {"mu_easy": 3.0, "steps": 20}
    assert isinstance(given_parameters(options)["steps"], int)
    assert "(default 0.5)" in parser.format_help()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(ValueError("rho=-1"), 2, "error: rho=-1\n"), (KeyboardInterrupt(), 130, "interrupted")],
    ids=["value", "interrupt"],
)
def test_errors_are_one_line_and_a_status(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: object) -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        run_command(main, [])
    assert stopped.value.code == status
    printed = capsys.readouterr()
    assert printed.err.startswith(text)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_other_errors_are_not_hidden() -> None:
    def main(arguments: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main, [])

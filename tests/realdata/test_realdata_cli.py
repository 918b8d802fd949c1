"""The command lines: dispatch, flags of every setting and of the data set, one-line errors, the printed table."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from realdata import __main__ as entry
from realdata.commands.run import parser
from realdata.configuration import RunConfiguration
from realdata.settings.completion import complete
from realdata.settings.flags import HELP
from realdata.settings.plan import make_plan, read_plan
from realdata.values import convert_value, read_scalar
from sambalance_tools.command_line import run_command

pytestmark = pytest.mark.usefixtures("stand_in_parts")


def run(tmp_path: Path, *arguments: str) -> Path:
    """Run ``python -m realdata run fake``; the folder of the only run."""
    entry.main(["run", "fake", "--root", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    (directory,) = (tmp_path / "out" / "runs").iterdir()
    return directory


def configuration_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error; exit status 2."""
    with pytest.raises(SystemExit) as stop:
        run_command(entry.main, list(arguments))
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_help_names_the_commands_and_is_quick() -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "realdata", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 5  # 0.3 s on an idle machine; torch alone takes longer than a busy one's 5
    for command in entry.COMMANDS:
        assert command in done.stdout
    heavy = "import sys; from realdata.commands import predict, report, run, sweep;"
    heavy += "predict.parser(); report.parser(); run.parser(); sweep.parser();"
    heavy += "print({'numpy', 'torch', 'sklearn', 'pandas', 'torchvision', 'PIL', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command is given; allowed: check, run"),
        (["runn"], "command 'runn' is unknown"),
        (["run", "nothing", "--root", "."], "'nothing' is unknown; allowed: fake, other"),
        (["run", "fake", "--root", "no/such/folder"], "--root='no/such/folder' is not a folder"),
        (["run", "fake", "--root", ".", "--rho", "small"], "rho='small'; allowed: a number"),
        (["run", "fake", "--root", ".", "--epochs", "2.5"], "epochs='2.5'; allowed: a whole number"),
        (["run", "fake", "--root", ".", "--method", "sgd", "--rho", "0.1"], "rho=0.1 with method='sgd'"),
        (["run", "fake", "--root", ".", "--correlation", "2"], "correlation=2.0; allowed: a number in [0, 1]"),
        (["run", "fake", "--root", ".", "--data-option", "angle=2"], "option 'angle' is unknown to fake"),
        (["run", "fake", "--root", ".", "--data-option", "angle"], "--data-option='angle'; allowed: KEY=VALUE"),
        (["run", "fake", "--root", ".", "--data-option", "seed=1", "--data-seed", "2"], "are both given"),
        (["run", "fake", "--root", ".", "--protocol", "mine"], "protocol='mine' is not known; allowed: fast, dfr"),
        (["run", "fake", "--root", ".", "--probe-option", "folds=3"], "probe option 'folds' is unknown"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, *arguments)


def test_root_comes_from_the_environment_or_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SAMBALANCE_DATA", raising=False)
    assert "--root is not given" in error_of(capsys, "run", "fake", "--out", str(tmp_path / "out"))
    monkeypatch.setenv("SAMBALANCE_DATA", str(tmp_path))
    entry.main(["run", "fake", "--out", str(tmp_path / "out")])
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_there_is_a_flag_for_every_setting_and_each_arrives(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "size": 32, "on_decode_error": "skip", "augmentation": "flip", "model": "mlp", "method": "asam",
        "effect": "weights", "rho": 0.3, "base": "adam", "lr": 0.01, "momentum": 0.8, "weight_decay": 1e-4,
        "batch_size": 64, "epochs": 3, "schedule": "step", "warmup_epochs": 0.5, "levels": [0.3, 0.1],
        "stop_level": 0.02, "evaluations_per_epoch": 2, "evaluation_examples": 500, "seed": 7, "precision": "bfloat16",
        "sam_from": 0.5, "sam_until": 2.5,
    }  # fmt: skip
    fields = {entry.name for entry in dataclasses.fields(RunConfiguration)}
    assert set(values) == fields - {"data", "data_options", "model_options"}
    flags = []
    for name, value in values.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags += ["--" + name.replace("_", "-"), text]
    options = ["--model-option", "width=8", "--data-option", "correlation=0.9"]
    found = configuration_of(run(tmp_path, *flags, *options))
    found["on_decode_error"] = found.pop("broken")
    assert {name: found[name] for name in values} == values
    assert found["model_options"] == {"depth": 1, "width": 8}
    assert found["data_options"]["correlation"] == 0.9


def test_model_options_have_the_type_of_their_default_and_are_checked() -> None:
    def options(model: str, **given: str) -> dict[str, Any]:
        return dict(complete({"data": "fake", "model": model, "model_options": given}).model_options)

    assert options("small_cnn", norm="none", width="8") == {"blocks": 1, "depth": 3, "norm": "none", "width": 8}
    assert options("small_resnet", stem_pooling="no")["stem_pooling"] is False
    assert options("torchvision:resnet18", weights="none") == {"weights": None}
    assert options("torchvision:resnet18", weights="imagenet") == {"weights": "imagenet"}
    for given, message in [({"width": "wide"}, "width='wide'; allowed: a whole number"), ({"wide": "3"}, "wide")]:
        with pytest.raises(ValueError, match=message):
            options("small_cnn", **given)
    with pytest.raises(ValueError, match="model='small'; allowed: small_cnn"):
        options("small")


def test_options_of_the_data_set_are_flags_and_clashing_names_get_a_prefix(tmp_path: Path) -> None:
    found = configuration_of(run(tmp_path, "--target", "sketch", "--data-seed", "3", "--seed", "1"))
    assert (found["data_options"]["target"], found["data_options"]["seed"], found["seed"]) == ("sketch", 3, 1)


def test_a_radius_alone_means_sam_and_none_means_sgd(tmp_path: Path) -> None:
    found = complete({"data": "fake", "rho": "0.1"}), complete({"data": "fake"})
    assert [configuration.method for configuration in found] == ["sam", "sgd"]


def test_one_hash_however_a_setting_is_written() -> None:
    plain = complete({"data": "fake", "rho": 0.1})
    spelled = {"correlation": "1", "classes": "automobile,truck"}
    assert complete({"data": "fake", "rho": "1e-1", "method": "sam", "data_options": spelled}).hash == plain.hash
    assert complete({"data": "fake", "rho": 0.1, "data_options": {"correlation": 0.9}}).hash != plain.hash


def test_the_table_shows_measures_with_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = run(tmp_path, "--rho", "0.1", "--levels", "0.4,0.1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fake (stand-in): small_cnn, sam, rho 0.1, seed 0"
    assert lines[1].split("  ")[0] == "checkpoint"
    assert [line.split()[0] for line in lines[2:6]] == ["untrained", "loss-0.4", "loss-0.1", "final"]
    # 0.35 - 0.2 * 0.1 + 0.1 * 0.001 at the end, see fake_parts.evaluate
    assert "0.330 [0.310, 0.350]" in lines[5]
    assert str(directory) in lines[6]


def test_the_same_command_again_trains_and_evaluates_nothing(tmp_path: Path) -> None:
    directory = run(tmp_path)
    trained = (directory / "trained.log").read_text()
    evaluated = (directory / "evaluated.log").read_text()
    assert run(tmp_path) == directory
    assert (directory / "trained.log").read_text() == trained
    assert (directory / "evaluated.log").read_text() == evaluated


def test_another_protocol_evaluates_again_without_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = run(tmp_path)
    trained = (directory / "trained.log").read_text()
    run(tmp_path, "--protocol", "dfr", "--probe-option", "repeats=3", "--probe-option", "inverse_penalties=1,0.5")
    assert (directory / "trained.log").read_text() == trained
    lines = (directory / "evaluated.log").read_text().splitlines()
    assert lines == ["loss-0.4 1 0", "loss-0.2 1 0", "final 1 0", "loss-0.4 3 0", "loss-0.2 3 0", "final 3 0"]
    evaluation = json.loads((directory / "rows.json").read_text())["evaluation"]
    # Under the name that files of finished jobs have for the inverse penalties.
    assert evaluation == {"protocol": "dfr", "probe_options": {"repeats": 3, "strengths": [1.0, 0.5]}, "seed": 0}
    evaluated = (directory / "evaluated.log").read_text()
    run(tmp_path, "--protocol", "dfr", "--probe-option", "repeats=3", "--probe-option", "strengths=1,0.5")
    assert (directory / "evaluated.log").read_text() == evaluated
    assert "warning: probe option 'strengths' is now called 'inverse_penalties'" in capsys.readouterr().err


def test_a_failing_run_says_where_and_why_and_keeps_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = error_of(
        capsys, "run", "fake", "--root", str(tmp_path), "--out", str(tmp_path / "out"), "--fault", "raise"
    )  # fmt: skip
    assert "while training: RuntimeError: no device has memory left" in message
    (failed,) = (tmp_path / "out" / "runs").glob("*/failed.json")
    assert "no device" in json.loads(failed.read_text())["traceback"]


def test_a_diverged_run_shows_the_levels_it_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--fault", "diverge")
    printed = capsys.readouterr().out
    assert "loss-0.4" in printed
    assert "final" not in printed
    assert "diverged" in printed


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", int, 3),
        ("3.0", int, 3),
        (4, float, 4.0),
        ("no", bool, False),
        ("none", int | None, None),
        ("5", int | None, 5),
        ("0.4,0.1", tuple[float, ...], (0.4, 0.1)),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (1, str, "1"),
    ],
)
def test_texts_become_values_of_their_type(value: Any, kind: Any, expected: Any) -> None:
    found = convert_value("x", value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("x", int), (True, int), (True, float), ("perhaps", bool), ("none", int), ([1], str), ("x", int | None)],
)
def test_values_of_another_type_are_refused_by_name(value: Any, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"^depth=.*; allowed: "):
        convert_value("depth", value, kind)


def test_texts_without_a_type_become_what_they_look_like() -> None:
    assert [read_scalar(text) for text in ("none", "true", "12", "0.5", "batch")] == [None, True, 12, 0.5, "batch"]


def test_every_flag_has_a_meaning() -> None:
    assert all(text.meaning for text in HELP.values())


def test_former_names_of_flags_and_settings_go_on_working_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, "--broken", "skip")
    assert "warning: --broken is now called --on-decode-error" in capsys.readouterr().err
    assert folder.name == complete({"data": "fake", "on_decode_error": "skip"}).hash
    assert "--broken" not in parser().format_help()
    plan = tmp_path / "plan.yaml"
    plan.write_text("data: fake\ngrids:\n  - {broken: skip}\n")
    (configuration,) = make_plan(read_plan(plan)).configurations
    assert configuration.on_decode_error == "skip"
    assert "warning: setting 'broken' in " in capsys.readouterr().err

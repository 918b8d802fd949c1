"""Sweeps: what they multiply out to, that a kill loses nothing, that nothing is done twice, that failures are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realdata.commands import sweep
from realdata.configuration import RunConfiguration
from realdata.settings.flags import settings_from
from realdata.settings.plan import make_plan, read_plan
from realdata.sweeps.estimate import duration, estimate, first_rows, time_training
from realdata.sweeps.jobs import DONE, ELSEWHERE, Job, JobOutcome, job_status, run_job
from realdata.sweeps.locks import Locked, job_lock
from realdata.sweeps.work import local_executor, run_jobs
from sambalance_tools.command_line import run_command
from support import fake_parts

pytestmark = pytest.mark.usefixtures("stand_in_parts")

SHORT = ["--epochs", "1", "--levels", "0.4,0.1"]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subprocesses get the stand-ins."""
    site = fake_parts.site_folder(tmp_path_factory.mktemp("site"))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{fake_parts.ROOT}")


def command(root: Path, *arguments: str) -> list[str]:
    """``--device cpu``: without it the sweep counts GPUs, for which it imports torch."""
    start = [sys.executable, "-m", "realdata", "sweep", "--device", "cpu", "--root", str(root)]
    return [*start, "--out", str(root / "out"), *arguments]


def runs(root: Path) -> list[Path]:
    return sorted((root / "out" / "runs").iterdir())


def steps_done(directory: Path) -> list[int]:
    """Which steps were trained, in order: a step that is there twice was done twice."""
    log = directory / "trained.log"
    return [int(line.split()[1]) for line in log.read_text().splitlines()] if log.exists() else []


def rules(settings: dict[str, Any]) -> list[tuple[str, float, str, int]]:
    found = make_plan({"data": "fake", **settings}).configurations
    return [(each.method, each.rho, each.effect, each.seed) for each in found]


def test_plain_training_is_trained_once_per_seed_whatever_the_methods() -> None:
    assert rules({"method": ["sgd", "sam", "lsam"], "rho": [0, 0.05, 0.1], "seeds": 2}) == [
        (method, rho, "full", seed)
        for seed in (0, 1)
        for method, rho in [("sgd", 0.0), ("sam", 0.05), ("sam", 0.1), ("lsam", 0.05), ("lsam", 0.1)]
    ]
    assert rules({"method": "sam", "rho": [0, 0.1]}) == [("sgd", 0.0, "full", 0), ("sam", 0.1, "full", 0)]
    assert rules({"rho": [0, 0.1]}) == [("sgd", 0.0, "full", 0), ("sam", 0.1, "full", 0)]
    effects = {"method": ["sgd", "sam"], "rho": 0.1, "effect": ["full", "weights"]}
    assert rules(effects) == [("sgd", 0, "full", 0), ("sam", 0.1, "full", 0), ("sam", 0.1, "weights", 0)]


def test_lists_are_axes_and_grids_are_united() -> None:
    plan = make_plan(
        {
            "data": ["fake", "other"],
            "lr": [0.1, 0.05],
            "levels": [0.4, 0.1],
            "data_options": {"other.angle": 4},
            "seed": [3],
            "grids": [{"data_options": {"target": ["art", "photo"]}}, {"lr": 0.1, "seeds": 2}],
        }
    )
    found = Counter((each.data, each.lr, each.data_options.get("target"), each.seed) for each in plan.configurations)
    assert set(found.values()) == {1}
    assert set(found) == {
        *(("fake", lr, target, 3) for lr in (0.1, 0.05) for target in ("art", "photo")),
        *(("other", lr, None, 3) for lr in (0.1, 0.05)),
        *(("fake", 0.1, "", seed) for seed in (0, 1)),
        *(("other", 0.1, None, seed) for seed in (0, 1)),
    }
    assert {each.levels for each in plan.configurations} == {(0.4, 0.1)}
    assert {each.data_options.get("angle") for each in plan.configurations if each.data == "other"} == {4.0}
    assert [each.seed for each in plan.configurations] == sorted(each.seed for each in plan.configurations)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "setting 'data' is not given"),
        ({"data": "fake", "epoch": 3}, "setting 'epoch' is unknown; allowed: data, "),
        ({"data": "fake", "grids": []}, r"grids=\[\]; allowed: a list of settings"),
        ({"data": "fake", "grids": [{"out": "x"}]}, "setting 'out' is inside a grid"),
        ({"data": "fake", "seeds": 0}, "seeds=0; allowed: a whole number >= 1"),
        ({"data": "fake", "seeds": 2, "seed": 1}, "both seeds and seed"),
        ({"data": "fake", "lr": []}, r"lr=\[\]; allowed: at least one value"),
        ({"data": "fake", "method": "sam"}, "with method 'sam'; allowed: at least one radius > 0"),
        ({"data": "fake", "method": "sgd", "rho": 0.1}, "with method 'sgd' alone"),
        ({"data": "fake", "rho": "big"}, "rho=.*; allowed: numbers >= 0"),
        ({"data": "fake", "data_options": 3}, "data_options=3; allowed: settings"),
        ({"data": ["fake", "other"], "data_options": {"turn": 3}}, "data option 'turn' is unknown to fake, other"),
        ({"data": ["fake", "other"], "data_options": {"third.angle": 3}}, "is for 'third'; allowed here: fake, other"),
        ({"data": "fake", "evaluation_seed": "x"}, "evaluation_seed='x'; allowed: a whole number"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(settings)


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    for name, text, message in (
        ("a", "- 1\n", "contains list"),
        ("b", "a: [1\n", "is not YAML"),
        ("c", None, "c.yaml: "),
    ):
        path = tmp_path / f"{name}.yaml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(path)


def test_the_home_folder_is_known_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    plan = make_plan({"data": "fake", "root": "~/nowhere", "roots": {"fake": "~/images"}, "out": "~/found"})
    assert (plan.root_of("fake"), plan.out) == (str(tmp_path / "images"), str(tmp_path / "found"))
    with pytest.raises(ValueError, match="root='~/nowhere' of other is not a folder"):
        plan.root_of("other")


def test_flags_stand_for_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("data: fake\nseeds: 3\nrho: [0, 0.1]\nlr: 0.1\ndata_options: {correlation: 0.5}\nroot: here\n")
    flags = ["--seed", "4", "--rho", "0,0.2", "--data-option", "target=a", "--data-option", "target=b", "--lr", "1,2"]
    settings = settings_from(sweep.parser().parse_args([str(path), *flags]))
    found = {
        (each.seed, each.rho, each.lr, each.data_options["target"], each.data_options["correlation"])
        for each in make_plan(settings).configurations
    }
    assert found == {(4, rho, lr, target, 0.5) for rho in (0, 0.2) for lr in (1, 2) for target in "ab"}
    assert settings["root"] == "here"


@pytest.mark.usefixtures("environment")
def test_a_sweep_counts_works_and_has_nothing_left(tmp_path: Path) -> None:
    arguments = ["--data", "fake", "--method", "sgd,sam", "--rho", "0.05,0.1", "--seeds", "2", "--workers", "2", *SHORT]
    first = subprocess.run(command(tmp_path, *arguments), capture_output=True, text=True, check=True)
    lines = first.stdout.splitlines()
    assert lines[0] == "6 jobs, 0 done already"
    assert lines[1].startswith("time: unknown")  # the stand-ins cannot be timed
    assert "6 done" in lines
    assert [steps_done(directory) for directory in runs(tmp_path)] == [list(range(fake_parts.STEPS))] * 6
    again = subprocess.run(command(tmp_path, *arguments), capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[:2] == ["6 jobs, 6 done already", "nothing left to do"]
    more = command(tmp_path, *arguments, "--seeds", "3", "--dry-run")
    dry = subprocess.run(more, capture_output=True, text=True, check=True)
    assert dry.stdout.splitlines()[0] == "9 jobs, 6 done already"
    assert "measured on finished jobs" in dry.stdout
    assert len(runs(tmp_path)) == 6
    # What was only asked about is not missing from the results.
    assert len(json.loads(next(tmp_path.rglob("plan.json")).read_text())) == 6


@pytest.mark.usefixtures("environment")
def test_sigkill_in_the_middle_loses_no_job_and_does_none_twice(tmp_path: Path) -> None:
    """Kill the sweep (its workers notice by themselves) after some jobs are done and while others are trained."""
    arguments = ["--data", "fake", "--rho", "0,0.05,0.1", "--seeds", "2", "--workers", "2", *SHORT]
    arguments += ["--data-option", "stall=1", "--no-estimate"]
    kill_when(lambda: finished(tmp_path) >= 1 and underway(tmp_path) >= 1, command(tmp_path, *arguments))
    wait_until(lambda: not any(locked(directory) for directory in runs(tmp_path)))
    assert 1 <= finished(tmp_path) < 6
    begun = {directory.name: steps_done(directory) for directory in runs(tmp_path)}
    assert any(0 < len(steps) < fake_parts.STEPS for steps in begun.values())

    before = finished(tmp_path)
    again = subprocess.run(command(tmp_path, *arguments), capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[0] == f"6 jobs, {before} done already"
    assert finished(tmp_path) == 6
    # Each step once: what was done before the kill was not done again.
    assert [steps_done(directory) for directory in runs(tmp_path)] == [list(range(fake_parts.STEPS))] * 6
    evaluated = [(directory / "evaluated.log").read_text().splitlines() for directory in runs(tmp_path)]
    assert all(len(lines) == len(set(lines)) == 3 for lines in evaluated)
    from realdata.results.parquet import read_results

    assert read_results(tmp_path / "out" / "results.parquet")["run"].nunique() == 6


@pytest.mark.slow
def test_a_killed_training_ends_with_the_numbers_of_an_undisturbed_one(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real training and evaluation, killed between two evaluations of the training loss."""
    site = fake_parts.site_folder(tmp_path_factory.mktemp("site"), training=False)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{fake_parts.ROOT}")
    arguments = ["--data", "tiny", "--method", "sgd,sam", "--rho", "0.1", "--workers", "1", "--no-estimate"]
    arguments += ["--epochs", "12", "--batch-size", "8", "--model-option", "width=4", "--threads", "1"]

    def lines(directory: Path) -> int:
        metrics = directory / "metrics.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def in_the_middle() -> bool:
        return finished(tmp_path) == 1 and any(3 <= lines(each) < 12 for each in runs(tmp_path))

    kill_when(in_the_middle, command(tmp_path, *arguments))
    wait_until(lambda: not any(locked(directory) for directory in runs(tmp_path)))
    assert finished(tmp_path) == 1
    kept = {each.name: (each / "metrics.jsonl").read_text().splitlines() for each in runs(tmp_path)}
    subprocess.run(command(tmp_path, *arguments), stdout=subprocess.DEVNULL, check=True)
    whole = ["--out", str(tmp_path / "whole"), *arguments]
    subprocess.run([*command(tmp_path), *whole], stdout=subprocess.DEVNULL, check=True)
    for directory in runs(tmp_path):
        undisturbed = tmp_path / "whole" / "runs" / directory.name
        rows = [json.loads((each / "rows.json").read_text()) for each in (directory, undisturbed)]
        assert len(rows[0]["checkpoints"]) >= 2
        assert rows[0]["checkpoints"] == rows[1]["checkpoints"]
        # What was trained before the kill was kept, not trained again. (The last line may be newer than the state: a
        # kill can come between the two.)
        again = (directory / "metrics.jsonl").read_text().splitlines()
        sure = kept[directory.name][:-1]
        assert again[: len(sure)] == sure


@pytest.mark.usefixtures("environment")
def test_two_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    arguments = ["--data", "fake", "--rho", "0,0.05,0.1", "--seeds", "2", "--workers", "1", *SHORT]
    arguments += ["--data-option", "stall=0.3", "--no-estimate"]
    both = [subprocess.Popen(command(tmp_path, *arguments), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert finished(tmp_path) == 6
    assert [steps_done(directory) for directory in runs(tmp_path)] == [list(range(fake_parts.STEPS))] * 6
    workers = {line.split()[0] for each in runs(tmp_path) for line in (each / "trained.log").read_text().splitlines()}
    assert len(workers) == 2


@pytest.mark.usefixtures("environment")
def test_every_failure_has_a_reason_and_stops_nothing(tmp_path: Path) -> None:
    kinds = ("raise", "loading", "kill", "diverge", "evaluate")
    faults = [f"--data-option=fault={kind}" for kind in (*kinds, "none_of_these")]
    arguments = ["--data", "fake", "--workers", "2", "--no-estimate", *SHORT, *faults]
    done = subprocess.run(command(tmp_path, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 diverged, 1 done, 4 failed" in done.stdout
    runs_of = json.loads((tmp_path / "out" / "results.json").read_text())["runs"].values()
    reasons = {each["configuration"]["data_options"]["fault"]: (each["status"], each["reason"]) for each in runs_of}
    assert reasons["raise"] == ("failed", "while training: RuntimeError: no device has memory left")
    assert reasons["loading"][1].startswith("while loading the data: attributes.csv is missing")
    assert reasons["kill"][1].startswith("its worker process ended by signal SIGKILL; perhaps out of memory")
    assert reasons["evaluate"][1] == "while evaluating checkpoint final: RuntimeError: probe did not converge"
    assert reasons["diverge"][0] == "diverged"
    assert reasons["none_of_these"] == ("done", "")
    again = subprocess.run(command(tmp_path, *arguments, "--dry-run"), capture_output=True, text=True, check=True)
    assert "6 jobs, 1 done already, 1 of them diverged, 4 failed before and will be tried again" in again.stdout


@pytest.mark.usefixtures("environment")
def test_ctrl_c_stops_the_workers_and_leaves_resumable_jobs(tmp_path: Path) -> None:
    arguments = ["--data", "fake", "--seeds", "2", "--workers", "2", "--data-option", "stall=20", "--no-estimate"]
    process = subprocess.Popen(
        command(tmp_path, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    wait_until(lambda: (tmp_path / "out" / "runs").exists() and any(locked(directory) for directory in runs(tmp_path)))
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert not any(locked(directory) for directory in runs(tmp_path))


def test_workers_default_to_gpus_or_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)

    def chosen(gpus: int, workers: int | None = None, threads: int | None = None, device: str = "auto") -> Any:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return local_executor(workers, threads, tmp_path, device)

    found = [(each.workers, each.threads) for each in (chosen(0), chosen(0, 2), chosen(0, 2, 1), chosen(2))]
    assert found == [(6, 1), (2, 3), (2, 1), (2, 3)]
    assert chosen(2, device="cpu").workers == 6
    assert chosen(2, device="cuda:1").workers == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    environments = [chosen(2, 3)._environment(number) for number in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["4", "7", "4"]
    assert {each["OMP_NUM_THREADS"] for each in environments} == {"2"}
    assert chosen(2, device="cuda:1")._environment()["CUDA_VISIBLE_DEVICES"] == "4,7"


def test_a_held_lock_refuses_and_says_who_holds_it(tmp_path: Path) -> None:
    with (
        job_lock(tmp_path / "job"),
        pytest.raises(Locked, match=f"process {os.getpid()} on "),
        job_lock(tmp_path / "job"),
    ):
        pytest.fail("two processes hold one lock")
    with job_lock(tmp_path / "job"):
        assert json.loads((tmp_path / "job" / "job.holder.json").read_text())["pid"] == os.getpid()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = f"from realdata.sweeps.locks import job_lock; from pathlib import Path; import time\n\
with job_lock(Path({str(tmp_path / 'job')!r})):\n    print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=fake_parts.ROOT)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert locked(tmp_path / "job")
    holder.kill()
    holder.wait()
    with job_lock(tmp_path / "job"):
        assert json.loads((tmp_path / "job" / "job.holder.json").read_text())["pid"] == os.getpid()


def test_checkpoints_that_were_evaluated_are_not_evaluated_again(tmp_path: Path) -> None:
    job = made_job(tmp_path, data_options={"fault": "evaluate"})
    for attempt in (1, 2):
        assert run_job(job).reason == "while evaluating checkpoint final: RuntimeError: probe did not converge", attempt
    assert (Path(job.directory) / "evaluated.log").read_text().splitlines() == ["loss-0.4 1 0", "loss-0.2 1 0"]


def test_the_same_weights_at_two_levels_are_evaluated_once(tmp_path: Path) -> None:
    job = made_job(tmp_path, data_options={"fault": "steep"})
    assert run_job(job).status == DONE
    assert (Path(job.directory) / "evaluated.log").read_text().splitlines() == ["loss-0.4 1 0", "final 1 0"]
    checkpoints = json.loads((Path(job.directory) / "rows.json").read_text())["checkpoints"]
    assert checkpoints["loss-0.4"]["rows"] == checkpoints["loss-0.2"]["rows"] != checkpoints["final"]["rows"]


def test_a_job_that_is_locked_is_left_to_the_other_process(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    with job_lock(Path(job.directory)):
        outcome = run_job(job)
    assert (outcome.status, job_status(Path(job.directory))) == (ELSEWHERE, "waiting")
    assert run_job(job).status == DONE


def test_jobs_of_another_sweep_are_asked_for_again_at_the_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    jobs = [made_job(tmp_path, seed) for seed in (0, 1)]
    names = [RunConfiguration.from_dict(job.configuration).hash for job in jobs]
    asked: list[list[str]] = []

    class Scripted(Serial):
        def outcomes(self, jobs: Sequence[Job]) -> Iterator[JobOutcome]:
            asked.append([RunConfiguration.from_dict(job.configuration).hash for job in jobs])
            for name in asked[-1]:
                yield JobOutcome(name, ELSEWHERE if name == names[0] and len(asked) == 1 else DONE, "", 2.0)

    outcomes = run_jobs(jobs, Scripted())
    assert asked == [names, names[:1]]
    assert sorted((each.hash, each.status) for each in outcomes) == sorted((name, DONE) for name in names)
    assert "[2/2] done" in capsys.readouterr().out


def test_any_executor_can_do_the_jobs(tmp_path: Path) -> None:
    """The interface for a cluster: nothing but plain values goes to ``do``, and outcomes come back in any order."""
    jobs = [made_job(tmp_path, seed) for seed in (0, 1, 2)]
    assert all(Job.from_dict(json.loads(json.dumps(job.as_dict()))) == job for job in jobs)
    outcomes = run_jobs(jobs, Serial())
    assert [each.status for each in outcomes] == [DONE] * 3
    assert [job_status(Path(job.directory)) for job in jobs] == [DONE] * 3


def test_the_estimate_scales_finished_jobs_by_epochs_and_passes(tmp_path: Path) -> None:
    jobs = [made_job(tmp_path, epochs=2), made_job(tmp_path, epochs=4, rho=0.1), made_job(tmp_path, epochs=2, lr=1.0)]
    assert run_job(jobs[0]).status == DONE
    rows = Path(jobs[0].directory) / "rows.json"
    stored = json.loads(rows.read_text()) | {"seconds": {"training": 10.0, "evaluation": 3.0}}
    rows.write_text(json.dumps(stored))
    found = estimate(jobs, jobs[1:], Serial(), measure=False)
    # SAM for 4 epochs: 10 s * (4 * 2) / 2 + 3 s; SGD for 2 epochs at another step size: 13 s.
    assert found.seconds == pytest.approx(43.0 + 13.0)
    assert (found.from_jobs, found.from_timing, found.unknown) == (2, 0, 0)
    assert estimate(jobs, jobs[1:], Serial(at_once=2), measure=False).seconds == pytest.approx(28.0)
    unlike = [made_job(tmp_path, batch_size=7)]
    assert estimate(unlike, unlike, Serial(), measure=False).seconds is None
    timed = estimate(unlike, unlike, Serial(seconds=1.5), measure=True)
    assert timed.seconds == pytest.approx(1.5 * 20)
    assert "training only" in timed.sentence


def test_a_resumed_training_does_not_serve_the_estimate(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    Path(job.directory).mkdir(parents=True)
    (Path(job.directory) / "config.json").write_text("{}")
    assert run_job(job).status == DONE
    assert estimate([job], [job], Serial(), measure=False).seconds is None


def test_a_timing_is_the_difference_of_two_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training takes 3 s at its start and 0.01 s per image: only the images count."""
    from realdata.training import train

    now = [0.0]

    def slow(configuration: Any, data: Any, directory: Path, **options: Any) -> None:
        now[0] += 3.0 + 0.01 * len(data.rows(0))

    monkeypatch.setattr(train, "train", slow)
    configuration = RunConfiguration(data="tiny", batch_size=4)
    assert time_training(fake_parts.tiny(), configuration, "cpu", lambda: now[0]) == pytest.approx(0.01 * 80)


def test_few_rows_of_a_data_set_keep_its_parts() -> None:
    for size in (10, 72):
        small = first_rows(fake_parts.tiny(), size)
        assert len(small.rows(0)) == size
        assert len(small.images[:]) == len(small) == 2 * size
        assert len(small.probe_rows(0)) + len(small.probe_rows(1)) == size
        assert len(np.unique(small.images[:].reshape(2 * size, -1), axis=0)) == 2 * size
    assert small.fingerprint != fake_parts.tiny().fingerprint


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_missing_root_is_found_before_any_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (["--data", "fake", "--root", "nowhere"], "root='nowhere' of fake is not a folder"),
        (["--data", "fake"], "root of fake is not given"),
        (["--data", "fake", "--root", str(tmp_path), "--workers", "0"], "workers=0; allowed: 1 to 4096"),
    ]:
        with pytest.raises(SystemExit) as stop:
            run_command(sweep.main, [*arguments, "--out", str(tmp_path / "out")])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


class Serial:
    """The smallest executor: one job after the other, here."""

    def __init__(self, at_once: int = 1, seconds: float | None = None) -> None:
        self.at_once, self.seconds = at_once, seconds

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[JobOutcome]:
        for job in jobs:
            yield run_job(Job.from_dict(json.loads(json.dumps(job.as_dict()))))

    def seconds_per_pass(self, job: Job) -> float | None:
        return self.seconds


def made_job(folder: Path, seed: int = 0, **changes: Any) -> Job:
    changes |= {"method": "sam"} if changes.get("rho") else {}
    configuration = RunConfiguration(data="fake", seed=seed, **changes)
    return Job(configuration.as_dict(), str(folder), str(folder / "runs" / configuration.hash))


def finished(root: Path) -> int:
    return sum(job_status(directory) == DONE for directory in (root / "out" / "runs").glob("*"))


def underway(root: Path) -> int:
    """Jobs that are trained right now, some steps of which are done."""
    return sum(0 < len(steps_done(each)) < fake_parts.STEPS for each in (root / "out" / "runs").glob("*"))


def locked(directory: Path) -> bool:
    try:
        with job_lock(directory):
            return False
    except Locked:
        return True


def kill_when(holds: Callable[[], bool], arguments: Sequence[str]) -> None:
    """Run a command and end it by SIGKILL when something holds."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(holds)
    finally:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for an event of another process."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "what the test waits for did not happen"
        threading.Event().wait(0.02)

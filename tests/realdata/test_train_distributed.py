"""Two processes, started as torchrun starts them, train the model that one process trains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from realdata.models.weights_file import read_weights  # noqa: E402
from realdata.training import checkpoints  # noqa: E402
from realdata.training.distributed import require_divisible  # noqa: E402
from realdata.training.train import train  # noqa: E402
from support.distributed_training import CASES  # noqa: E402
from support.toy_images import configuration, toy  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch has no gloo"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained all cases."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(2):
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        command = [sys.executable, "-m", "support.distributed_training", str(folder)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return folder


@pytest.mark.parametrize("name", [name for name in CASES if name != "diverged"])
def test_two_processes_train_what_one_trains(name: str, folder: Path, tmp_path: Path) -> None:
    settings = configuration(**CASES[name])
    alone = train(settings, toy(), tmp_path, device="cpu", progress=False)
    together = checkpoints.read_run(folder / name)
    assert [c.name for c in together.checkpoints] == [c.name for c in alone.checkpoints]
    ours, theirs = (read_weights(run.checkpoints[-1].path)["model"] for run in (alone, together))
    for key in ours:
        # Sums in another order: float32 rounding of 1e-7, grown over 18 steps.
        torch.testing.assert_close(theirs[key], ours[key], rtol=1e-3, atol=1e-5)
    for one, two in zip(checkpoints.read_metrics(tmp_path), checkpoints.read_metrics(folder / name), strict=True):
        assert two["training_loss"] == pytest.approx(one["training_loss"], rel=1e-4)
        assert two["test_group_accuracy"] == pytest.approx(one["test_group_accuracy"])
        if one["batch_loss"] is not None:
            assert two["batch_loss"] == pytest.approx(one["batch_loss"], rel=1e-4)


def test_all_processes_agree_that_a_run_diverged(folder: Path) -> None:
    assert checkpoints.read_run(folder / "diverged").status == "diverged"


def test_two_processes_resume_bit_for_bit(folder: Path) -> None:
    once, resumed = (checkpoints.read_run(folder / name) for name in ("sam", "resumed"))
    ours, theirs = (read_weights(run.checkpoints[-1].path)["model"] for run in (once, resumed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(checkpoints.read_metrics(resumed.directory)) == 3


def test_unequal_shares_are_an_error() -> None:
    with pytest.raises(ValueError, match="batch_size=9 with 2 processes; allowed: a multiple of 2"):
        require_divisible(9, 100, 2, toy())
    assert require_divisible(64, 7, 2, toy()) == 6
    with pytest.raises(ValueError, match="Toy images has no training images"):
        require_divisible(8, 0, 1, toy(split=np.ones(120, dtype=np.int8)))

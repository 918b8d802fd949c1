"""Trains in a process of its own, for tests of what only a process has: environment, signals, threads.

python -m support.training_child battery ENGINE PRECISION OUT    train the battery of problems, pickle the results
python -m support.training_child endless ENGINE PRECISION        train until interrupted, then say what happened as JSON
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np

from kernels.engine import train
from kernels.names import LOSSES
from kernels.problem import TrainingProblem
from support.problems import levels_along, random_problem


def battery() -> list[TrainingProblem]:
    """A few problems that between them use every network, norm and loss."""
    problems = []
    kinds: list[dict[str, Any]] = [
        {},
        {"depth": 4},
        {"network": "two_layer"},
        {"network": "two_layer", "activation": "relu"},
    ]
    for index, (kind, norm) in enumerate((kind, norm) for kind in kinds for norm in ("l2", "linf", "none")):
        rng = np.random.default_rng(index)
        options: dict[str, Any] = {**kind, "loss": LOSSES[index % 3], "batch_size": (None, 4)[index % 2], "norm": norm}
        options |= {"runs": 21, "samples": 5, "dimension": 7, "width": 6, "momentum": True, "decay": True}
        problem = random_problem(rng, record_steps=[0, 6, 12], record_layers=True, **options)
        problems.append(replace(problem, loss_levels=levels_along(problem)))
    return problems


def endless(engine: str, precision: str) -> dict[str, float]:
    """Train for hours; a Python thread counts meanwhile, as it only can while the GIL is free, and counts threads."""
    count, most, running = 0, 0, True

    def counter() -> None:
        nonlocal count, most
        while running:
            count += 1
            most = max(most, len(os.listdir("/proc/self/task")))
            time.sleep(0.001)

    problem = random_problem(np.random.default_rng(0), runs=2000, samples=8, dimension=16, steps=1)
    problem = replace(problem, steps=1_000_000_000, eta=1e-9)
    watcher = threading.Thread(target=counter)
    watcher.start()
    time.sleep(0.05)
    before, threads_before = count, most
    print("started", flush=True)
    try:
        train(problem, engine=engine, precision=precision)
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
    counted = count - before
    running = False
    watcher.join()
    return {"interrupted": outcome == "interrupted", "counted": counted, "new_threads": most - threads_before}


if __name__ == "__main__":
    task, engine, precision, *rest = sys.argv[1:]
    if task == "battery":
        results = [train(problem, engine=engine, precision=precision) for problem in battery()]
        with open(rest[0], "wb") as file:
            pickle.dump(results, file)
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start with it ignored
        print(json.dumps(endless(engine, precision)))

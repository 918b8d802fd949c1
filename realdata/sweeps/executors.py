"""Executors that run the jobs of a sweep: processes on this machine, or other ones that implement :class:`Executor`."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from realdata.sweeps.jobs import Job, JobOutcome, record_failure

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

MOST = 4096
"""More workers or threads than that are a slip."""


class Executor(Protocol):
    """Runs jobs by calling :func:`realdata.sweeps.jobs.run_job` for each, on any machine.

    A job consists of plain values. Only its directory is shared: a cluster needs a shared folder, and the data in the
    same root folder on all machines. ``run_job`` handles locks and resuming.
    """

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[JobOutcome]:
        """Yields one outcome per job, in the order in which jobs end. Closing the iterator early stops running jobs."""

    @property
    def at_once(self) -> int:
        """Number of jobs that run at the same time, used to estimate the total time."""

    def seconds_per_pass(self, job: Job) -> float | None:
        """:func:`realdata.sweeps.estimate.seconds_per_pass` of a job, measured where jobs run."""


class LocalExecutor:
    """Processes of this machine, each with its own number of threads.

    If a worker dies (out of memory, a crash in native code), its job fails with that reason, and a new worker starts.

    Args:
        workers: processes, >= 1. threads: CPU threads of each, >= 1.
        log_folder: folder of the workers' logs; None discards them.
        gpus: number of GPUs to spread the workers over; each worker sees one of them. 0: do not assign GPUs.
    """

    def __init__(self, workers: int, threads: int, log_folder: Path | None = None, gpus: int = 0) -> None:
        for name, value in (("workers", workers), ("threads", threads)):
            if not 1 <= value <= MOST:
                raise ValueError(f"{name}={value}; allowed: 1 to {MOST}")
        self.workers, self.threads, self.log_folder, self.gpus = workers, threads, log_folder, gpus

    @property
    def at_once(self) -> int:
        """The number of workers."""
        return self.workers

    def seconds_per_pass(self, job: Job) -> float | None:
        """See :class:`Executor`. Runs in a separate process with a worker's threads, so its memory is released."""
        done = subprocess.run(
            [sys.executable, "-m", "realdata.sweeps.estimate"],
            input=json.dumps(job.as_dict()), env=self._environment(), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        try:
            found = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            return None
        return None if found is None else float(found)

    def _environment(self, number: int = 0) -> dict[str, str]:
        """Environment variables of a worker: its threads and, with several GPUs, its GPU."""
        chosen = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        if self.gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
            chosen["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % self.gpus].strip()
        return chosen

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[JobOutcome]:
        """See :class:`Executor`."""
        waiting = deque(jobs)
        answers: queue.Queue[tuple[_Worker, JobOutcome | None]] = queue.Queue()
        crew = [self._start(number, answers) for number in range(min(self.workers, len(jobs)))]
        try:
            for worker in crew:
                worker.give(waiting.popleft())
            left = len(jobs)
            while left:
                worker, outcome = answers.get()
                if outcome is None and worker.job is None:
                    continue  # a process that ended after its last job
                left -= 1
                if outcome is None:
                    outcome = worker.lost()
                    worker.stop()
                    if waiting:
                        crew[crew.index(worker)] = worker = self._start(worker.number, answers)
                # The next job first: whoever reads the outcome may take its time.
                worker.job = None
                if waiting:
                    worker.give(waiting.popleft())
                yield outcome
        finally:
            for worker in crew:
                worker.stop()

    def _start(self, number: int, answers: queue.Queue[tuple[_Worker, JobOutcome | None]]) -> _Worker:
        log = None if self.log_folder is None else self.log_folder / f"worker-{number}.log"
        return _Worker(number, self._environment(number), log, answers)


class _Worker:
    """One process of a :class:`LocalExecutor`."""

    def __init__(self, number: int, environment: dict[str, str], log: Path | None, answers: queue.Queue[Any]) -> None:
        self.number = number
        with open(os.devnull if log is None else log, "a", encoding="utf-8") as errors:
            # A session of its own: Ctrl-C reaches the sweep alone, which then closes the inputs of its workers.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "realdata.sweeps.worker"], env=environment, text=True, encoding="utf-8",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self.job: Job | None = None
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    def give(self, job: Job) -> None:
        """Send a job to the worker. If the process has ended, this is noticed when its answer is awaited."""
        self.job = job
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(job.as_dict()) + "\n")
            self.process.stdin.flush()
        except OSError:
            self.process.kill()

    def _listen(self, answers: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answers.put((self, JobOutcome(**json.loads(line))))
        answers.put((self, None))

    def lost(self) -> JobOutcome:
        """Failure of the job during which the process died."""
        code = self.process.wait()
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        hint = "; perhaps out of memory: fewer workers, a smaller batch" if code == -signal.SIGKILL else ""
        assert self.job is not None
        return record_failure(self.job, f"its worker process ended {how}{hint}")

    def stop(self) -> None:
        """Stop the process by closing its input, or kill it if it does not react."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            self.process.kill()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

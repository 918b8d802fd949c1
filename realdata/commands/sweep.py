"""Train every combination of data sets, methods, radii and seeds; print the number of jobs and the time first.

    python -m realdata sweep plan.yaml
    python -m realdata sweep --data cifar_mnist,pacs --method sgd,sam --rho 0,0.05,0.1 --seeds 5 --root data
    python -m realdata sweep plan.yaml --seeds 1 --dry-run

A file contains the settings of a training, one `name: value` per line. A list of values is an axis of the sweep. Flags
override the file. Each job has its own folder, OUT/runs/HASH. You can stop a sweep at any time; the same command
resumes it. A second sweep that runs at the same time shares the work. Writes results.parquet and results.json into OUT.
"""

from __future__ import annotations

from collections.abc import Sequence

from realdata.settings.flags import (
    add_configuration_flags,
    add_job_flags,
    add_option_flags,
    settings_from,
)
from realdata.settings.plan import make_plan
from realdata.sweeps.work import (
    add_executor_flags,
    exit_if_failed,
    jobs_of,
    local_executor,
    print_outcomes,
    print_plan,
    record_plan,
    require_device,
    run_jobs,
)
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata sweep", __doc__)
    made.add_argument("file", nargs="?", metavar="FILE.yaml", help="file with settings; flags override it")
    made.add_argument("--data", metavar="NAME,..", help="names of the data sets")
    made.add_argument("--seeds", type=int, metavar="N", help="number of seeds: 0 to N-1")
    add_job_flags(made)
    made.add_argument("--out", metavar="DIR", help="folder of the results (default out/sweep)")
    add_executor_flags(made)
    add_configuration_flags(made, many=True)
    add_option_flags(made, many=True)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    plan = make_plan(settings_from(options))
    require_device(options.device or "auto")
    out = writable_directory(plan.out)
    jobs = jobs_of(plan, out, options.device or "auto")
    executor = local_executor(options.workers, options.threads, out, options.device or "auto")
    todo = print_plan(jobs, executor, measure=not options.no_estimate)
    if options.dry_run:
        return
    record_plan(out, plan.configurations)
    outcomes = run_jobs(todo, executor)
    from realdata.results.parquet import write_results

    paths = write_results(out)
    print_outcomes(outcomes)
    for path in paths:
        print(f"  {path}")
    exit_if_failed(outcomes)

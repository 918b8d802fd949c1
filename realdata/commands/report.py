"""Tables and figures from the results of a sweep, and the verdicts of a predict as a page.

    python -m realdata report --out out/sweep
    python -m realdata report --out out/sweep --to docs/results --no-latex
    python -m realdata report --html --out out/predict --with out/phase_diagram

Reads OUT/results.parquet and OUT/results.json, brought up to date from OUT/runs first. Writes into OUT/report (or the
folder --to) report.md, and per setting a folder with the tables in LaTeX and the figures as PNG and PDF. With --html it
writes report.html instead: one page with all of it inside, and the verdicts where OUT is the folder of a predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata report", __doc__)
    made.add_argument("--out", default="out/sweep", metavar="DIR", help="folder of the sweep (default out/sweep)")
    made.add_argument("--to", metavar="DIR", help="folder of the report (default OUT/report)")
    made.add_argument("--no-latex", action="store_true", help="write no .tex files")
    made.add_argument("--no-figures", action="store_true", help="write no figures")
    made.add_argument("--html", action="store_true", help="write one self-contained page instead, report.html")
    made.add_argument(
        "--with", action="append", default=[], dest="beside", metavar="DIR",
        help="with --html: include the folder of a phase diagram (again for more of them)",
    )  # fmt: skip
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    out = Path(options.out)
    if not out.is_dir():
        raise ValueError(f"--out={options.out!r} is not a folder; allowed: the folder of a sweep")
    if options.beside and not options.html:
        raise ValueError(f"--with={options.beside[0]!r} without --html; allowed: with --html")
    to = writable_directory(options.to or out / "report")
    if options.html:
        from realdata.html.page import write_html

        print(f"  {write_html(out, to, [Path(each) for each in options.beside], figures=not options.no_figures)}")
        return
    from realdata.results.report import write_report

    paths = write_report(out, to, latex=not options.no_latex, figures=not options.no_figures)
    print(f"  {paths[0]}")
    count = {suffix: sum(path.suffix == suffix for path in paths) for suffix in (".tex", ".png")}
    print(f"  beside it {count['.tex']} tables in LaTeX, {count['.png']} figures as PNG and PDF")

"""Run every command of docs/gallery.md and put the figures where the page shows them.

    python docs/make_gallery.py
    python docs/make_gallery.py filter effects_spurious

A figure ``figures/gallery_NAME.png`` is made by the ``bash`` block that follows it: the block's command is run with
``--out`` set to a scratch folder, and the PNG named in the line's title is taken from there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).parent
ENTRY = re.compile(
    r"!\[[^\]]*\]\(figures/gallery_(?P<name>\w+)\.png \"(?P<source>[\w.]+)\"\)\s+```bash\n(?P<command>[^`]+)\n```"
)


def entries() -> dict[str, tuple[str, str]]:
    """Name of each figure -> (file that the command writes, command)."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    return {m["name"]: (m["source"], m["command"].strip()) for m in ENTRY.finditer(page)}


def main(wanted: list[str]) -> None:
    """Make the wanted figures, by default all."""
    known = entries()
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise SystemExit(f"error: no figure named {', '.join(unknown)}; allowed: {', '.join(known)}")
    started = time.perf_counter()
    for name in wanted or known:
        source, command = known[name]
        with tempfile.TemporaryDirectory() as scratch:
            words = [sys.executable if word == "python" else word for word in shlex.split(command)]
            begun = time.perf_counter()
            subprocess.run([*words, "--out", scratch], check=True, stdout=subprocess.DEVNULL, cwd=DOCS.parent)
            shutil.copy(Path(scratch) / source, DOCS / "figures" / f"gallery_{name}.png")
        print(f"{name:<24}{time.perf_counter() - begun:7.1f} s   {command}", flush=True)
    print(f"{'all':<24}{time.perf_counter() - started:7.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])

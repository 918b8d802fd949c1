"""How much memory there is, and requests that it cannot hold: refused in one line before anything is built."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SHARE = 0.9
"""Part of the free memory that a request may need."""


def free_bytes() -> int:
    """Memory that this process can still have: of the machine, of its control group, and by its own limit."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            found.append(max(0, int(Path(most).read_text()) - int(Path(used).read_text())))
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            found.append(max(0, limit - taken))
    return min(found, default=1 << 62)


def require_memory(request: str, count: int, bytes_each: int, what: str, fixed: int = 0) -> None:
    """Raise a ValueError unless ``count`` things of ``bytes_each`` and ``fixed`` further bytes fit into free memory.

    Args:
        request: the argument and its value, as ``seeds=1000000000``.
        count, bytes_each: how many things the request asks for, and the memory of each.
        what: what they are, in the plural.
        fixed: memory that is needed besides.
    """
    needed, free = count * bytes_each + fixed, free_bytes()
    if needed <= SHARE * free:
        return
    fitting = max(0, int((SHARE * free - fixed) // bytes_each))
    raise ValueError(
        f"{request}: {count:,} {what} need about {size(needed)}, and {size(free)} of memory are free; "
        f"allowed here: up to {fitting:,} {what}"
    )


def size(count: int) -> str:
    """``1.5 GB``, for people."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.0f} PB" if amount < 1e6 else f"{amount:.0e} PB"

"""How many cores this process may use."""

import os
from pathlib import Path

__all__ = ["usable_cores"]


def usable_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: its affinity, cut to the whole cores of its control group's quota.

    Args:
        root: where the control groups are mounted.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    quotas = []
    for path in (root / "cpu.max", root / "cpu" / "cpu.cfs_quota_us"):
        try:
            words = path.read_text(encoding="ascii").split()
            period = words[1] if len(words) > 1 else (path.parent / "cpu.cfs_period_us").read_text(encoding="ascii")
            if words[0] not in {"max", "-1"}:
                quotas.append(int(words[0]) / int(period))
        except (OSError, ValueError, IndexError):
            continue
    return max(1, min([cores, *map(int, quotas)]))

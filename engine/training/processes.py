"""A training shared out among processes, as torchrun and accelerate start them: who is first, and what all agree on."""

import os

__all__ = ["count", "is_first", "on_any"]


def count() -> int:
    """Number of processes in this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks; known before the processes have met."""
    return count() == 1 or os.environ.get("RANK", "0") == "0"


def on_any(flag: bool) -> bool:
    """Whether the flag is set in any process; every process has to ask, at the same point."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    on_gpu = distributed.get_backend() == "nccl"
    found = torch.tensor(int(flag), device="cuda" if on_gpu else "cpu")
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return bool(found)

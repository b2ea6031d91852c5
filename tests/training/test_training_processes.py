"""`fouille train` under torchrun, in two processes: every loss learns; the first process alone writes and speaks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import distributed

from engine.training.examples import Group

pytest.importorskip("accelerate")
pytest.importorskip("datasets")
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("this build of torch has no gloo, by which processes without GPUs meet", allow_module_level=True)

ROOT = Path(__file__).parents[2]
# Groups of eight passages, four in a batch: a listwise loss computes them as two blocks.
# Without a warm-up, whose first step changes nothing: where dev figures tie, that step is the one kept.
SMALL = ("--max-length=32", "--negatives=7", "--batch=4", "--steps=3", "--evaluate-every=1", "--precision=fp32")
QUICK = (*SMALL, "--learning-rate=1e-3", "--warmup=0")

SEVERAL = """
import json, sys
from cli import app

for arguments in json.loads(sys.argv[1]):
    app(arguments, standalone_mode=False)
"""
"""Commands in turn, so that the processes start, and import torch, once for all of them."""


def under_torchrun(commands: Sequence[Sequence[str]], folder: Path) -> tuple[int, str, str]:
    """Exit status, output and messages."""
    script = folder / "several.py"
    script.write_text(SEVERAL, "utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [*torchrun, str(script), json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            output, messages = running.communicate(timeout=270)
        finally:
            running.terminate()  # and not kill: torchrun has to end its processes
    return running.returncode, output, messages


def test_every_loss_trains_in_two_processes_of_which_the_first_writes(
    groups: list[Group], jsonl, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    fields = ("question", "passages", "labels", "scores")
    data = jsonl(*({name: getattr(group, name) for name in fields} for group in groups))
    presets = {"mmarco-l6": "binary", "distill": "listwise", "student": "layerwise", "margin-mse": "margin-mse"}
    presets |= {"bi-encoder": "contrastive", "bi-encoder-distill": "margin-mse"}
    commands = []
    for preset in presets:
        kind, base = "cross-encoder", tiny.reranker
        if preset.startswith("bi-encoder"):
            kind, base = "bi-encoder", tiny.encoder
        named = ["--preset", preset, "--base", str(base), "--data", str(data), "-o", str(tmp_path / preset)]
        kept = ["--layers=0"] if preset == "student" else []
        commands.append(["train", kind, *named, *kept, *QUICK, "--device=cpu", f"--dev={data}"])
    status, output, messages = under_torchrun(commands, tmp_path)

    assert status == 0, messages[-4000:]
    assert output == ""
    assert re.findall(r"(\d+) steps, (\d+) examples", messages) == [("3", "24")] * len(presets)
    assert len(re.findall(r"step 0: nDCG@10", messages)) == len(presets)
    for preset in presets:
        folder = tmp_path / preset
        names = {path.name for path in folder.iterdir()}
        assert {"README.md", "learning-curve.png", "model.safetensors"} <= names
        assert "checkpoints" not in names
        before = load_file((tiny.encoder if "bi-" in preset else tiny.reranker) / "model.safetensors")
        after = load_file(folder / "model.safetensors")
        assert any(not np.array_equal(after[name], before[name]) for name in before.keys() & after.keys())

"""Wherever an interruption cuts the two files of a partial run, going on gives the run of an uninterrupted one."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation.provenance import Provenance
from engine.evaluation.resumable import ResumableRun

QUESTIONS = [f"q{number}" for number in range(12)]
MADE = Provenance("run", {}, {}, {}, {})


def answer(run: ResumableRun, question: str) -> None:
    found = int(question[1:]) % 4  # some questions find nothing
    run.add(question, [f"é{place}" for place in range(found)], [1.0 / (place + 3) for place in range(found)])


def whole(output: Path) -> str:
    with ResumableRun(output, {"k": 3}) as run:
        for question in QUESTIONS:
            if question not in run.done:
                answer(run, question)
        run.finish(MADE)
    return output.read_text("utf-8")


@given(st.integers(0, 12), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=8))
@settings(max_examples=60, deadline=None)
def test_run_goes_on_from_any_cut(answered: int, lines_kept: float, journal_kept: float, torn: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = whole(Path(folder) / "whole.trec")
        output = Path(folder) / "r.trec"
        with suppress(KeyboardInterrupt), ResumableRun(output, {"k": 3}) as run:
            for question in QUESTIONS[:answered]:
                answer(run, question)
            raise KeyboardInterrupt
        for name, kept in (("run", lines_kept), ("journal", journal_kept)):
            path = Path(folder) / "r.trec.partial" / name
            content = path.read_bytes()
            left = content[: round(kept * len(content))]
            # A torn line follows whole ones: bytes are lost, or bytes are left over, never replaced.
            path.write_bytes(left if name == "run" and left != content else left + torn.replace(b"\n", b""))
        assert whole(output) == expected

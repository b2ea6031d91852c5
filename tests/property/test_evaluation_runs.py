"""Whatever can be written is read back the same; whatever order lines come in, the run is the same."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation import Run, read_qrels, read_run, write_qrels, write_run
from engine.evaluation.lines import odd_character
from engine.evaluation.runs import rank
from engine.evaluation.significance import holm

ids = st.text(min_size=1, max_size=12).filter(lambda name: odd_character(name) is None)
scores = st.floats(allow_nan=False, allow_infinity=False)
runs = st.dictionaries(ids, st.dictionaries(ids, scores, min_size=1, max_size=8), min_size=1, max_size=5)


@given(runs)
@settings(max_examples=150, deadline=None)
def test_run_round_trips(run: dict[str, dict[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.trec"
        write_run(run, path)
        again = read_run(path)
    assert list(again) == list(run)
    for question, ranked in again.items():
        assert dict(zip(ranked.documents, ranked.scores.tolist(), strict=True)) == run[question]
        assert ranked.documents == Run(run)[question].documents


@given(
    st.dictionaries(ids, st.dictionaries(ids, st.integers(-2, 4), min_size=1), min_size=1),
    st.sampled_from(["trec", "beir"]),
)
@settings(max_examples=80, deadline=None)
def test_qrels_round_trip(qrels: dict[str, dict[str, int]], layout: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q"
        write_qrels(qrels, path, layout=layout)
        assert dict(read_qrels(path)) == qrels


@given(st.dictionaries(ids, st.sampled_from([0.0, 0.25, 1.0, -3.0]), min_size=1), st.randoms())
def test_rank_does_not_depend_on_the_order_given(scored: dict[str, float], shuffler: object) -> None:
    names = list(scored)
    shuffler.shuffle(names)  # type: ignore[attr-defined]
    ranked = rank(names, [scored[name] for name in names])
    assert list(ranked.documents) == sorted(scored, key=lambda name: (scored[name], name), reverse=True)


@given(st.text(max_size=6))
def test_odd_characters_are_whitespace_controls_byte_order_marks_and_lone_surrogates(name: str) -> None:
    import unicodedata

    odd = any(c.isspace() or c == "\ufeff" or unicodedata.category(c) in ("Cc", "Cs") for c in name)
    assert (odd_character(name) is not None) == (odd or not name)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p: list[float]) -> None:
    import numpy as np

    values = np.array(p)
    adjusted = holm(values)
    assert (adjusted >= values - 1e-15).all()
    assert (adjusted <= np.minimum(1, values * len(values)) + 1e-12).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()

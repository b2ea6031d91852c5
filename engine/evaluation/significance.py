"""Comparing runs with a baseline, question by question.

Paired t-test and Fisher's randomisation test, as Smucker, Allan and Carterette recommend (2007, "A comparison of
statistical significance tests for information retrieval evaluation", CIKM, section 2), corrected for the number of
comparisons by Holm's step-down procedure (1979, "A simple sequentially rejective multiple test procedure",
Scandinavian Journal of Statistics 6).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import DependencyMissing, EvaluationError
from engine.evaluation.defaults import PERMUTATIONS
from engine.evaluation.measures import Evaluation

if TYPE_CHECKING:
    import pandas

__all__ = ["Comparison", "Difference", "compare", "holm", "randomisation_test"]

_SIGNS_AT_ONCE = 4_000_000  # signs drawn at a time: 32 MB as float64


@dataclass(frozen=True, slots=True)
class Difference:
    """One run against the baseline under one measure.

    Attributes:
        run, baseline, measure: what is compared.
        mean, baseline_mean: means over the questions.
        difference: their difference, positive where the run is better.
        wins, ties, losses: questions on which the run is better, equal, worse.
        t_p: two-sided p-value of the paired t-test.
        randomisation_p: two-sided p-value of the randomisation test.
        t_holm, randomisation_holm: the same after Holm's correction over every comparison of the call.
    """

    run: str
    baseline: str
    measure: str
    mean: float
    baseline_mean: float
    difference: float
    wins: int
    ties: int
    losses: int
    t_p: float
    randomisation_p: float
    t_holm: float
    randomisation_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs against one baseline.

    Attributes:
        baseline: its name.
        differences: one for each run and measure, runs in the order given.
        permutations, seed: of the randomisation test.
    """

    baseline: str
    differences: tuple[Difference, ...]
    permutations: int
    seed: int

    def to_frame(self) -> "pandas.DataFrame":
        """A DataFrame with a row for each run and measure."""
        import pandas as pd

        return pd.DataFrame(list(self.differences))


def compare(
    baseline: Evaluation,
    runs: Evaluation | Sequence[Evaluation],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """Compares runs with a baseline measured on the same qrels.

    Args:
        baseline: the system to beat.
        runs: one run or several.
        permutations: sign assignments drawn for the randomisation test.
        seed: of the draw; the same signs serve every run and measure.

    Raises:
        EvaluationError: the runs were measured on other questions or by other measures, or on a single question.
    """
    systems = [runs] if isinstance(runs, Evaluation) else list(runs)
    if not systems:
        raise EvaluationError("no run to compare with the baseline", where=baseline.run)
    for system in systems:
        if system.questions != baseline.questions or list(system.scores) != list(baseline.scores):
            raise EvaluationError(
                "measured on other questions or by other measures than the baseline", where=system.run
            )
    if len(baseline.questions) < 2:
        raise EvaluationError("a single question allows no test of significance", where=baseline.run)
    if permutations < 1:
        raise EvaluationError("a randomisation test needs at least one permutation")
    if seed < 0:
        raise EvaluationError(f"the seed {seed} is less than 0")
    cells = [(system, measure) for system in systems for measure in baseline.scores]
    delta = np.stack([system.scores[measure] - baseline.scores[measure] for system, measure in cells], axis=1)
    t_p = _paired_t(delta)
    randomisation_p = randomisation_test(delta, permutations=permutations, seed=seed)
    t_holm, randomisation_holm = holm(t_p), holm(randomisation_p)
    differences = tuple(
        Difference(
            run=system.run,
            baseline=baseline.run,
            measure=measure,
            mean=float(system.scores[measure].mean()),
            baseline_mean=float(baseline.scores[measure].mean()),
            difference=float(delta[:, cell].mean()),
            wins=int((delta[:, cell] > 0).sum()),
            ties=int((delta[:, cell] == 0).sum()),
            losses=int((delta[:, cell] < 0).sum()),
            t_p=float(t_p[cell]),
            randomisation_p=float(randomisation_p[cell]),
            t_holm=float(t_holm[cell]),
            randomisation_holm=float(randomisation_holm[cell]),
        )
        for cell, (system, measure) in enumerate(cells)
    )
    return Comparison(baseline.run, differences, permutations, seed)


def _paired_t(delta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided p-values, float64[m], of differences float64[n, m]; where nothing differs, 1."""
    try:
        from scipy.stats import ttest_1samp
    except ImportError:
        raise DependencyMissing("scipy is not installed", hint="pip install 'fouille[eval]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # differences that are all the same have no variance
        p: NDArray[np.float64] = ttest_1samp(delta, 0).pvalue
    return np.where(np.isnan(p), 1.0, p)


def randomisation_test(
    delta: NDArray[np.float64], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> NDArray[np.float64]:
    """Two-sided p-values of the paired randomisation test.

    Under the null hypothesis the two systems' labels are exchangeable on each question, so the sign of each difference
    is arbitrary. `(1 + extreme) / (1 + permutations)` counts the labelling observed among those drawn, so that no
    p-value is zero (Phipson and Smyth 2010, "Permutation P-values should never be zero").

    Args:
        delta: float64[n, m], per-question differences for m comparisons, tested with the same signs.
        permutations: how many sign assignments to draw.
        seed: of the draw.

    Returns:
        float64[m].
    """
    generator = np.random.default_rng(seed)
    observed = np.abs(delta.sum(axis=0))
    # Sums of the same numbers in another order differ by rounding: what is equal must count as extreme.
    threshold = observed - 1e-10 * np.maximum(1.0, np.abs(delta).sum(axis=0))
    extreme = np.zeros(delta.shape[1], dtype=np.int64)
    left = permutations
    while left:
        rows = min(left, max(1, _SIGNS_AT_ONCE // len(delta)))
        signs = generator.integers(0, 2, size=(rows, len(delta)), dtype=np.int8).astype(np.float64) * 2 - 1
        extreme += (np.abs(signs @ delta) >= threshold).sum(axis=0)
        left -= rows
    return (1 + extreme) / (1 + permutations)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjusted p-values: the i-th smallest of m times m - i + 1, never falling, at most 1."""
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(count, 0, -1))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted

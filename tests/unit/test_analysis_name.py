"""An index remembers the name of its analysis, so a name must always mean the same chain."""

from hashlib import sha256

import pytest

from indexes.analysis import DEFAULT_ANALYSIS, FRENCH_ANALYZER

CHAINS = {
    "french-1": "dda298207dcaf84c",
    "lucene-french": "8f4eea7d304282be",
}


@pytest.mark.parametrize("analysis", [DEFAULT_ANALYSIS, FRENCH_ANALYZER], ids=lambda analysis: analysis.name)
def test_a_chain_that_changes_takes_another_name(analysis):
    chain = (sorted(analysis.stop_words or ()), analysis.folding, analysis.stemmer)
    assert sha256(repr(chain).encode()).hexdigest()[:16] == CHAINS[analysis.name]

"""What measuring takes where nothing is said; the flags take it from here, so this imports nothing."""

__all__ = ["DEFAULT_MEASURES", "PERMUTATIONS"]

DEFAULT_MEASURES = "RPrec MRR@10 nDCG@10 R@10 R@20 R@50 R@100 R@500 P@10 AP"
PERMUTATIONS = 100_000

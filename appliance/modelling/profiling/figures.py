"""How many digits a measured figure is kept with."""

from __future__ import annotations


def rounded(value: float) -> float:
    """Four significant digits: more than any measurement of an engine is good for."""
    return float(f"{value:.4g}")

"""Faults on a schedule against the real processes, and a checker of what was promised."""

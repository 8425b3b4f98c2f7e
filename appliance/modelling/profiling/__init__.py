"""Measures an engine on the machine where it will serve; without torch."""

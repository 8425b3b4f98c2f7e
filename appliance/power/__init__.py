"""Meters: where power readings come from."""

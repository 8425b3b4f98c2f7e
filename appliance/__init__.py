"""Dělen: one small accelerator, many tenants, answers as early as their conditions allow."""

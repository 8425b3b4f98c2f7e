"""From a dataset to an engine folder: train, split, profile."""

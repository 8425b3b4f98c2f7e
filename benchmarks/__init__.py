"""What it costs, measured beside its floor in the same run."""

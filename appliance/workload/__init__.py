"""A load to play to policies: when requests come, what networks answer, and what comes of it."""

"""The dashboard: pages that show a fleet, in a process of their own."""

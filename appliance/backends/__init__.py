"""What runs the stages: one module per runtime, behind one protocol."""

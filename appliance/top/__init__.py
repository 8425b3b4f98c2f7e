"""The fleet at a terminal: the same picture as the dashboard's, drawn with characters."""

"""One view, one file."""

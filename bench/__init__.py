"""Benchmarks: ratios of what is ours to what it stands beside, measured in one run."""

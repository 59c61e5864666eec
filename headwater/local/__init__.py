"""The platform on one machine: every part a native process, nothing beyond the loopback."""

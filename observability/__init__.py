"""What the platform tells about itself: the names of its metrics, and its traces."""

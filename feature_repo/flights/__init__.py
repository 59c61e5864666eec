"""Will a flight arrive late? The flights of New York in 2013 as a feature repository."""

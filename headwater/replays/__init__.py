"""A backfill is a replay of the log through the same job, beside the live one."""

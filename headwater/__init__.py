"""The `headwater` command: everything below it, composed."""

"""The subcommands, one module a group."""

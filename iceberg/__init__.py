"""The offline store: tables, their schemas and their partitions."""

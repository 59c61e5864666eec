"""The jobs: Flink SQL derived from the declarations, and the one module that runs it."""

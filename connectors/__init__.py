"""Kafka, Debezium and Redis: how records come in and values go out."""

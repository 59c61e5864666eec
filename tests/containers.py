"""Kafka, PostgreSQL and Redis as containers on the platform's ports."""

from __future__ import annotations

from functools import cache

from headwater.settings import Settings


@cache
def docker_answers() -> bool:
    """Whether a Docker engine is there."""
    import docker

    try:
        client = docker.from_env(timeout=2)
        client.ping()
        client.close()
    except Exception:
        return False
    return True


class Restartable:
    """A container that can be stopped and started again with what it holds."""

    def __init__(self, container) -> None:
        self._container = container
        self._created = False

    def start(self) -> None:
        """Start it; what runs already is left alone."""
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True

    def stop(self) -> None:
        """Stop it and keep what it holds."""
        if self._created:
            self._container.get_wrapped_container().stop(timeout=20)


def containers_for(settings: Settings) -> dict[str, Restartable]:
    """The three servers, by the name of the part they stand for."""
    from testcontainers.core.container import DockerContainer

    password = "only-for-this-test"
    settings.password_file.parent.mkdir(parents=True, exist_ok=True)
    settings.password_file.write_text(f"password={password}\n", "utf-8")
    postgres = (
        DockerContainer("postgres:18")
        .with_bind_ports(5432, ("127.0.0.1", settings.ports.postgres))
        .with_env("POSTGRES_USER", "headwater")
        .with_env("POSTGRES_PASSWORD", password)
        .with_command("postgres -c wal_level=logical")
    )
    redis = DockerContainer("redis:7.4").with_bind_ports(6379, ("127.0.0.1", settings.ports.redis))
    port = settings.ports.kafka
    kafka = DockerContainer("apache/kafka:4.3.1").with_bind_ports(port, ("127.0.0.1", port))
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_MAX_TIMEOUT_MS": "604800000",
    }.items():
        kafka.with_env(name, value)
    made = {"kafka": kafka, "postgres": postgres, "redis": redis}
    return {name: Restartable(container) for name, container in made.items()}

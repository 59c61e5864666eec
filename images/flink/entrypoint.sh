#!/usr/bin/env bash
# What the image does: one of Flink's processes by name, or any command, as Flink's own image does.
# The Flink operator starts `bash -c "kubernetes-jobmanager.sh ..."` by it.
set -euo pipefail
case "${1:-}" in
  jobmanager) exec "$FLINK_HOME/bin/jobmanager.sh" start-foreground "${@:2}" ;;
  taskmanager) exec "$FLINK_HOME/bin/taskmanager.sh" start-foreground "${@:2}" ;;
  standalone-job) exec "$FLINK_HOME/bin/standalone-job.sh" start-foreground "${@:2}" ;;
  *) exec "$@" ;;
esac

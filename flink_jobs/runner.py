"""Submits job scripts, in the environment that has PyFlink.

    python -m flink_jobs.runner < request.json

The request holds Flink's address and a list of jobs, each with its SQL text, the values of its
placeholders and, to go on from there, a savepoint. It comes by standard input because values may
be secrets, and a command line is public. Each job that was submitted is one JSON line of output.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_SET = re.compile(r"SET '([^']+)' = '([^']*)'")
_VIEW = re.compile(r"CREATE VIEW (\S+) AS\n(.*)", re.DOTALL)


def statements(text: str, values: Mapping[str, str]) -> Iterator[str]:
    """The statements of a script, its placeholders filled in with escaped `values`."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise SystemExit(f"no value for the placeholder {match[0]}")
        return values[match[1]].replace("'", "''")

    for statement in re.split(r";\n", text):
        if statement.strip():
            yield _PLACEHOLDER.sub(value, statement.strip())


def statement_set(table: TableEnvironment, sql: str, values: Mapping[str, str]) -> StatementSet:
    """Run a script up to its statement set, which is returned unexecuted."""
    together = None
    for statement in statements(sql, values):
        if match := _SET.fullmatch(statement):
            table.get_config().set(match[1], match[2])
        elif match := _VIEW.fullmatch(statement):
            # CREATE VIEW would write the query out and parse it again, and Flink 2.1 does not
            # parse what it writes of a process table function.
            table.create_temporary_view(match[1], table.sql_query(match[2]))
        elif statement == "BEGIN STATEMENT SET":
            together = table.create_statement_set()
        elif statement == "END" and together is not None:
            return together
        elif together is not None:
            together.add_insert_sql(statement)
        else:
            table.execute_sql(statement)
    raise SystemExit("the script holds no whole statement set")


def submit(flink: Mapping[str, str], job: Mapping[str, Any]) -> str:
    """Submit one job; its id."""
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for key, setting in (*flink.items(), *job["configuration"].items()):
        table.get_config().set(key, setting)
    try:
        together = statement_set(table, job["sql"], job["values"])
        return str(together.execute().get_job_client().get_job_id())
    finally:
        for catalog in set(table.list_catalogs()) - {table.get_current_catalog()}:
            table.execute_sql(f"DROP CATALOG `{catalog}`")  # which closes its connections


def main() -> None:
    """Submit every job of the request on standard input."""
    request = json.load(sys.stdin)
    for job in request["jobs"]:
        print(json.dumps({"name": job["name"], "id": submit(request["flink"], job)}), flush=True)


if __name__ == "__main__":
    main()

"""Counts a log of three dialects with a peer: log_peers.py duckdb|polars|python LOG [THREADS].

Prints one JSON line: operations {name: {calls, errors, timeouts, cost_nano, p50_ms, p95_ms, p99_ms}}.
Quantiles lie between neighbours, as NumPy has them. Each peer is told what analyze-logs finds out by itself:
which keys the three dialects have. Polars stops at a bad line, so the caller gives it a cleaned file.
"""

import json
import re
import sys

TIMEOUT = re.compile("timed out|timeout|deadline exceeded", re.IGNORECASE)


def plain(path):
    """Line by line with the standard library."""
    operations = {}
    with open(path, "rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if not isinstance(row, dict):
                continue
            found = call(row)
            if found is None:
                continue
            name, ms, error, cost = found
            op = operations.setdefault(name, [0, 0, 0, 0, []])
            op[0] += 1
            if error is not None:
                op[1] += 1
                op[2] += TIMEOUT.search(error) is not None
            op[3] += cost
            op[4].append(ms)
    return {name: answer(*op[:4], sorted(op[4])) for name, op in operations.items()}


def call(row):
    """Operation, milliseconds, error text or None, nano-dollars."""
    event = row.get("event")
    if event == "tool_execution" and "duration" in row:
        return "tool:" + row["tool_name"], row["duration"] * 1e3, row["error"], 0
    if event == "llm_interaction":
        return "llm:" + row["model"], row["duration"] * 1e3, row["error"], round(row["estimated_cost"] * 1e9)
    if event in ("task_complete", "task_error"):
        return "task:" + row["task_name"], row["duration"] * 1e3, row.get("error"), 0
    if "kind" in row and "latency_ms" in row:
        error = row["err"]["message"] if row["status"] == "error" else None
        return row["kind"] + ":" + row["name"], row["latency_ms"], error, round(row.get("cost_usd", 0) * 1e9)
    if "attributes" in row:
        attributes = row["attributes"]
        ms = (int(row["endTimeUnixNano"]) - int(row["startTimeUnixNano"])) / 1e6
        error = row["status"]["message"] if row["status"]["code"] == 2 else None
        kind, key = {
            "execute_tool": ("tool:", "gen_ai.tool.name"),
            "chat": ("llm:", "gen_ai.request.model"),
            "invoke_agent": ("task:", "gen_ai.agent.name"),
        }[attributes["gen_ai.operation.name"]]
        return kind + attributes[key], ms, error, round(attributes.get("gen_ai.usage.cost", 0) * 1e9)
    return None


def answer(calls, errors, timeouts, cost_nano, ms):
    def quantile(q):
        rank = q * (len(ms) - 1)
        low = int(rank)
        high = min(low + 1, len(ms) - 1)
        return ms[low] + (rank - low) * (ms[high] - ms[low])

    return {
        "calls": calls,
        "errors": errors,
        "timeouts": timeouts,
        "cost_nano": cost_nano,
        "p50_ms": quantile(0.50),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
    }


SQL = """
WITH lines AS (
    SELECT * FROM read_json('{path}', format = 'newline_delimited', ignore_errors = true, maximum_object_size = 16777216,
        columns = {{
            event: 'VARCHAR', tool_name: 'VARCHAR', model: 'VARCHAR', task_name: 'VARCHAR', duration: 'DOUBLE', error: 'VARCHAR',
            estimated_cost: 'DOUBLE', kind: 'VARCHAR', name: 'VARCHAR', latency_ms: 'DOUBLE', status: 'JSON', cost_usd: 'DOUBLE',
            err: 'STRUCT(message VARCHAR)', startTimeUnixNano: 'BIGINT', endTimeUnixNano: 'BIGINT',
            attributes: 'STRUCT("gen_ai.operation.name" VARCHAR, "gen_ai.tool.name" VARCHAR, "gen_ai.request.model" VARCHAR,
                "gen_ai.agent.name" VARCHAR, "gen_ai.usage.cost" DOUBLE)'
        }})
), calls AS (
    SELECT
        CASE
            WHEN event = 'tool_execution' THEN 'tool:' || tool_name
            WHEN event = 'llm_interaction' THEN 'llm:' || model
            WHEN event IN ('task_complete', 'task_error') THEN 'task:' || task_name
            WHEN latency_ms IS NOT NULL THEN kind || ':' || name
            WHEN attributes."gen_ai.operation.name" = 'execute_tool' THEN 'tool:' || attributes."gen_ai.tool.name"
            WHEN attributes."gen_ai.operation.name" = 'chat' THEN 'llm:' || attributes."gen_ai.request.model"
            WHEN attributes."gen_ai.operation.name" = 'invoke_agent' THEN 'task:' || attributes."gen_ai.agent.name"
        END AS operation,
        coalesce(duration * 1e3, latency_ms, (endTimeUnixNano - startTimeUnixNano) / 1e6) AS ms,
        coalesce(error, err.message, json_extract_string(status, '$.message')) AS message,
        coalesce(estimated_cost, cost_usd, attributes."gen_ai.usage.cost", 0) AS cost
    FROM lines
)
SELECT operation, count(*), count(message), count(*) FILTER (regexp_matches(message, 'timed out|timeout|deadline exceeded', 'i')),
    CAST(sum(CAST(round(cost * 1e9) AS BIGINT)) AS BIGINT), quantile_cont(ms, [0.50, 0.95, 0.99])
FROM calls WHERE operation IS NOT NULL AND ms IS NOT NULL GROUP BY operation
"""


def duckdb(path, threads):
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    rows = connection.execute(SQL.format(path=path)).fetchall()
    return {
        name: dict(calls=n, errors=e, timeouts=t, cost_nano=c, p50_ms=q[0], p95_ms=q[1], p99_ms=q[2])
        for name, n, e, t, c, q in rows
    }


def polars(path, threads):
    import os

    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    text, number = pl.String, pl.Float64
    attributes = {
        "gen_ai.operation.name": text,
        "gen_ai.tool.name": text,
        "gen_ai.request.model": text,
        "gen_ai.agent.name": text,
        "gen_ai.usage.cost": number,
    }
    schema = {
        "event": text, "tool_name": text, "model": text, "task_name": text, "duration": number, "error": text,
        "estimated_cost": number, "kind": text, "name": text, "latency_ms": number, "cost_usd": number,
        "err": pl.Struct({"message": text}), "startTimeUnixNano": text, "endTimeUnixNano": text,
        "attributes": pl.Struct(attributes), "status": text,
    }
    of = pl.col("attributes").struct.field
    operation = (
        pl.when(pl.col("event") == "tool_execution").then("tool:" + pl.col("tool_name"))
        .when(pl.col("event") == "llm_interaction").then("llm:" + pl.col("model"))
        .when(pl.col("event").is_in(["task_complete", "task_error"])).then("task:" + pl.col("task_name"))
        .when(pl.col("latency_ms").is_not_null()).then(pl.col("kind") + ":" + pl.col("name"))
        .when(of("gen_ai.operation.name") == "execute_tool").then("tool:" + of("gen_ai.tool.name"))
        .when(of("gen_ai.operation.name") == "chat").then("llm:" + of("gen_ai.request.model"))
        .when(of("gen_ai.operation.name") == "invoke_agent").then("task:" + of("gen_ai.agent.name"))
    )
    nanos = pl.col("endTimeUnixNano").cast(pl.Int64) - pl.col("startTimeUnixNano").cast(pl.Int64)
    span_error = pl.when(pl.col("attributes").is_not_null()).then(pl.col("status").str.json_path_match("$.message"))
    message = pl.coalesce("error", pl.col("err").struct.field("message"), span_error)
    cost = pl.coalesce("estimated_cost", "cost_usd", of("gen_ai.usage.cost"), pl.lit(0.0))
    frame = (
        pl.scan_ndjson(path, schema=schema, ignore_errors=False)
        .select(
            operation.alias("operation"),
            pl.coalesce(pl.col("duration") * 1e3, "latency_ms", nanos / 1e6).alias("ms"),
            message.alias("message"),
            (cost * 1e9).round().cast(pl.Int64).alias("cost"),
        )
        .filter(pl.col("operation").is_not_null() & pl.col("ms").is_not_null())
        .group_by("operation")
        .agg(
            pl.len(),
            pl.col("message").count().alias("errors"),
            pl.col("message").str.contains("(?i)timed out|timeout|deadline exceeded").sum().alias("timeouts"),
            pl.col("cost").sum(),
            *[pl.col("ms").quantile(q, "linear").alias(f"q{q}") for q in (0.50, 0.95, 0.99)],
        )
        .collect(engine="streaming")
    )
    return {
        name: dict(calls=n, errors=e, timeouts=t, cost_nano=c, p50_ms=a, p95_ms=b, p99_ms=d)
        for name, n, e, t, c, a, b, d in frame.iter_rows()
    }


if __name__ == "__main__":
    peer, path = sys.argv[1:3]
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    found = {"duckdb": duckdb, "polars": polars}.get(peer, lambda path, threads: plain(path))(path, threads)
    print(json.dumps({"operations": found}))

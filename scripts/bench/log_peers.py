"""Counts a log of three dialects with a peer: log_peers.py duckdb|polars|python LOG [THREADS].

Prints one JSON line: operations {name: {calls, errors, timeouts, cost_nano, prompt_tokens, completion_tokens, p50_ms,
p95_ms, p99_ms, max_ms, first_us, last_us}}: every column that compare_logs.py checks against the truth, and so the
same question for all. analyze-logs answers more in its one pass, and its time includes that: the same counts and
quantiles by hour, sessions and chains of calls with what they wasted, templates of errors, level shifts, bursts,
trends and forecasts, recommendations, and the class and place of each bad line.
Quantiles lie between neighbours, as NumPy has them. Each peer is told what analyze-logs finds out by itself:
which keys the three dialects have. Polars stops at a bad line, so the caller gives it a cleaned file.
"""

import json
import re
import sys
from datetime import datetime

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
            name, ms, error, cost, at, tokens = found
            op = operations.setdefault(name, [0, 0, 0, 0, 0, 0, at, at, []])
            op[0] += 1
            if error is not None:
                op[1] += 1
                op[2] += TIMEOUT.search(error) is not None
            op[3] += cost
            op[4] += tokens[0]
            op[5] += tokens[1]
            op[6] = min(op[6], at)
            op[7] = max(op[7], at)
            op[8].append(ms)
    return {name: answer(*op[:8], sorted(op[8])) for name, op in operations.items()}


def stamp(text):
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def call(row):
    """Operation, milliseconds, error text or None, nano-dollars, microseconds since 1970, tokens."""
    event = row.get("event")
    none = (0, 0)
    if event == "tool_execution" and "duration" in row:
        return "tool:" + row["tool_name"], row["duration"] * 1e3, row["error"], 0, stamp(row["timestamp"]), none
    if event == "llm_interaction":
        cost, tokens = round(row["estimated_cost"] * 1e9), (row["prompt_tokens"], row["completion_tokens"])
        return "llm:" + row["model"], row["duration"] * 1e3, row["error"], cost, stamp(row["timestamp"]), tokens
    if event in ("task_complete", "task_error"):
        return "task:" + row["task_name"], row["duration"] * 1e3, row.get("error"), 0, stamp(row["timestamp"]), none
    if "kind" in row and "latency_ms" in row:
        error = row["err"]["message"] if row["status"] == "error" else None
        usage = row.get("usage", {})
        tokens = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        cost = round(row.get("cost_usd", 0) * 1e9)
        return row["kind"] + ":" + row["name"], row["latency_ms"], error, cost, row["ts"] * 1000, tokens
    if "attributes" in row:
        attributes = row["attributes"]
        start = int(row["startTimeUnixNano"])
        ms = (int(row["endTimeUnixNano"]) - start) / 1e6
        error = row["status"]["message"] if row["status"]["code"] == 2 else None
        kind, key = {
            "execute_tool": ("tool:", "gen_ai.tool.name"),
            "chat": ("llm:", "gen_ai.request.model"),
            "invoke_agent": ("task:", "gen_ai.agent.name"),
        }[attributes["gen_ai.operation.name"]]
        tokens = attributes.get("gen_ai.usage.input_tokens", 0), attributes.get("gen_ai.usage.output_tokens", 0)
        cost = round(attributes.get("gen_ai.usage.cost", 0) * 1e9)
        return kind + attributes[key], ms, error, cost, start // 1000, tokens
    return None


FIELDS = "calls errors timeouts cost_nano prompt_tokens completion_tokens first_us last_us max_ms p50_ms p95_ms p99_ms".split()


def answer(*found):
    *counts, ms = found

    def quantile(q):
        rank = q * (len(ms) - 1)
        low = int(rank)
        high = min(low + 1, len(ms) - 1)
        return ms[low] + (rank - low) * (ms[high] - ms[low])

    return dict(zip(FIELDS, [*counts, ms[-1], *map(quantile, (0.50, 0.95, 0.99))]))


SQL = """
WITH lines AS (
    SELECT * FROM read_json('{path}', format = 'newline_delimited', ignore_errors = true, maximum_object_size = 16777216,
        columns = {{
            event: 'VARCHAR', tool_name: 'VARCHAR', model: 'VARCHAR', task_name: 'VARCHAR', duration: 'DOUBLE', error: 'VARCHAR',
            estimated_cost: 'DOUBLE', kind: 'VARCHAR', name: 'VARCHAR', latency_ms: 'DOUBLE', status: 'JSON', cost_usd: 'DOUBLE',
            err: 'STRUCT(message VARCHAR)', startTimeUnixNano: 'BIGINT', endTimeUnixNano: 'BIGINT',
            timestamp: 'VARCHAR', ts: 'BIGINT', prompt_tokens: 'BIGINT', completion_tokens: 'BIGINT',
            usage: 'STRUCT(input_tokens BIGINT, output_tokens BIGINT)',
            attributes: 'STRUCT("gen_ai.operation.name" VARCHAR, "gen_ai.tool.name" VARCHAR, "gen_ai.request.model" VARCHAR,
                "gen_ai.agent.name" VARCHAR, "gen_ai.usage.cost" DOUBLE,
                "gen_ai.usage.input_tokens" BIGINT, "gen_ai.usage.output_tokens" BIGINT)'
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
        coalesce(estimated_cost, cost_usd, attributes."gen_ai.usage.cost", 0) AS cost,
        coalesce(epoch_us(CAST("timestamp" AS TIMESTAMP)), ts * 1000, startTimeUnixNano // 1000) AS seen,
        coalesce(prompt_tokens, usage.input_tokens, attributes."gen_ai.usage.input_tokens", 0) AS prompt,
        coalesce(completion_tokens, usage.output_tokens, attributes."gen_ai.usage.output_tokens", 0) AS completion
    FROM lines
)
SELECT operation, count(*), count(message), count(*) FILTER (regexp_matches(message, 'timed out|timeout|deadline exceeded', 'i')),
    CAST(sum(CAST(round(cost * 1e9) AS BIGINT)) AS BIGINT), CAST(sum(prompt) AS BIGINT), CAST(sum(completion) AS BIGINT),
    min(seen), max(seen), max(ms), quantile_cont(ms, [0.50, 0.95, 0.99])
FROM calls WHERE operation IS NOT NULL AND ms IS NOT NULL GROUP BY operation
"""


def duckdb(path, threads):
    import duckdb

    connection = duckdb.connect(config={"threads": threads})
    rows = connection.execute(SQL.format(path=path)).fetchall()
    return {name: dict(zip(FIELDS, [*counts, *quantiles])) for name, *counts, quantiles in rows}


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
        "gen_ai.usage.input_tokens": pl.Int64,
        "gen_ai.usage.output_tokens": pl.Int64,
    }
    schema = {
        "event": text, "tool_name": text, "model": text, "task_name": text, "duration": number, "error": text,
        "estimated_cost": number, "kind": text, "name": text, "latency_ms": number, "cost_usd": number,
        "err": pl.Struct({"message": text}), "startTimeUnixNano": text, "endTimeUnixNano": text,
        "attributes": pl.Struct(attributes), "status": text,
        "timestamp": text, "ts": pl.Int64, "prompt_tokens": pl.Int64, "completion_tokens": pl.Int64,
        "usage": pl.Struct({"input_tokens": pl.Int64, "output_tokens": pl.Int64}),
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
    usage = pl.col("usage").struct.field
    at = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us").dt.epoch("us")
    prompt = pl.coalesce("prompt_tokens", usage("input_tokens"), of("gen_ai.usage.input_tokens"), pl.lit(0))
    completion = pl.coalesce("completion_tokens", usage("output_tokens"), of("gen_ai.usage.output_tokens"), pl.lit(0))
    frame = (
        pl.scan_ndjson(path, schema=schema, ignore_errors=False)
        .select(
            operation.alias("operation"),
            pl.coalesce(pl.col("duration") * 1e3, "latency_ms", nanos / 1e6).alias("ms"),
            message.alias("message"),
            (cost * 1e9).round().cast(pl.Int64).alias("cost"),
            prompt.alias("prompt"),
            completion.alias("completion"),
            pl.coalesce(at, pl.col("ts") * 1000, pl.col("startTimeUnixNano").cast(pl.Int64) // 1000).alias("at"),
        )
        .filter(pl.col("operation").is_not_null() & pl.col("ms").is_not_null())
        .group_by("operation")
        .agg(
            pl.len(),
            pl.col("message").count().alias("errors"),
            pl.col("message").str.contains("(?i)timed out|timeout|deadline exceeded").sum().alias("timeouts"),
            pl.col("cost").sum(),
            pl.col("prompt").sum(),
            pl.col("completion").sum(),
            pl.col("at").min().alias("first"),
            pl.col("at").max().alias("last"),
            pl.col("ms").max().alias("longest"),
            *[pl.col("ms").quantile(q, "linear").alias(f"q{q}") for q in (0.50, 0.95, 0.99)],
        )
        .collect(engine="streaming")
    )
    return {name: dict(zip(FIELDS, found)) for name, *found in frame.iter_rows()}


if __name__ == "__main__":
    peer, path = sys.argv[1:3]
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    found = {"duckdb": duckdb, "polars": polars}.get(peer, lambda path, threads: plain(path))(path, threads)
    print(json.dumps({"operations": found}))

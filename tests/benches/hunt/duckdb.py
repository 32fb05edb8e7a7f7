"""The same queries over the same files by DuckDB.

In: a folder of Parquet files, the number of threads and runs, and on standard input a JSON array of queries. Out: for each, on a line of
its own, a JSON object: its rows (times as text), the quickest run's seconds, or why it could not be answered.
"""
import json
import sys
import time

import duckdb

folder, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
base = duckdb.connect()
base.execute(f"set threads = {threads}")
base.execute("set timezone = 'UTC'")
base.execute("set parquet_metadata_cache = true")
base.execute(f"create view events as select * from read_parquet('{folder}/**/*.parquet', union_by_name = true)")
for query in json.load(sys.stdin):
    try:
        best, rows = None, None
        for _ in range(runs):
            began = time.perf_counter()
            found = base.execute(query).fetchall()
            took = time.perf_counter() - began
            best = took if best is None else min(best, took)
            rows = found
        print(json.dumps({"rows": [[str(v) if v is not None else None for v in row] for row in rows], "seconds": best}), flush=True)
    except Exception as error:  # what it cannot answer is told, whatever it is
        print(json.dumps({"error": str(error).splitlines()[0]}), flush=True)

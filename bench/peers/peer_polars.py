"""Polars, from the parquet file to a file: the best of those that keep no store of their own."""
from common import BIG_LIMIT, SMALL_CITIES, SMALL_USERS, T, data, fsync_tree, main, outfile, rm, size

import polars as pl

FILTERS = {"all": None, "small": pl.col("city").is_in(SMALL_CITIES) & pl.col("user_id").is_in(SMALL_USERS),
           "big": pl.col("user_id") < BIG_LIMIT}


def export(where, kind):
    def f(a):
        query, out = pl.scan_parquet(data(a)), outfile(a, "polars." + kind)
        if where is not None:
            query = query.filter(where)
        rm(out)
        with T() as t:
            query.sink_ndjson(out) if kind == "json" else query.sink_parquet(out, compression="snappy")
        n = sum(1 for _ in open(out, "rb")) if kind == "json" else pl.scan_parquet(out).select(pl.len()).collect().item()
        return dict(wall_s=t.s, sync_s=fsync_tree(out), rows=n, bytes=size(out))
    return f


main({f"export_{name}_{kind}": export(where, kind) for name, where in FILTERS.items() for kind in ("parquet", "json")})

"""LanceDB / Lance (embedded). Exports read the Lance data set with its scanner and write with pyarrow (parquet) or
DuckDB's json writer (json lines): Lance has no file export of its own. Filters run without scalar indexes, which was
its faster way on this data."""
import os

import lance
import lancedb
import pyarrow as pa
import pyarrow.parquet as pq
from common import (COLS, T, data, fsync_tree, keys, main, outfile, parallel, rm, scratch_copy, size, sql_big,
                    sql_small, store, thread_local, upsert_batch)

TBL = "t"


def uri(a):
    return store(a, "lancedb")


def dataset(a):
    return lance.dataset(os.path.join(uri(a), TBL + ".lance"))


def load(a):
    rm(uri(a))
    with T() as t:
        f = pq.ParquetFile(data(a))
        tbl = lancedb.connect(uri(a)).create_table(TBL, (b for b in f.iter_batches(16384)), schema=f.schema_arrow)
    s = fsync_tree(uri(a))
    assert tbl.count_rows() == a.rows
    tbl.create_scalar_index("id", index_type="BTREE")
    return dict(wall_s=t.s, sync_s=s, rows=a.rows)


def write_parquet(batches, out):
    """Batches of the scanner, gathered to row groups of 64 Ki rows."""
    n, writer, pending = 0, None, []

    def put():
        nonlocal writer, pending
        table = pa.Table.from_batches(pending)
        writer = writer or pq.ParquetWriter(out, table.schema, compression="snappy", use_dictionary=["city", "tags"])
        writer.write_table(table)
        pending = []
    for batch in batches:
        n += batch.num_rows
        pending.append(batch)
        if sum(b.num_rows for b in pending) >= 65536:
            put()
    if pending:
        put()
    if writer:
        writer.close()
    return n


def export(where, kind):
    def f(a):
        ds = dataset(a)
        out = outfile(a, "lance." + kind)
        rm(out)
        with T() as t:
            scan = ds.scanner(filter=where, columns=COLS, batch_size=16384, use_scalar_index=False, scan_in_order=False)
            if kind == "json":
                import duckdb
                c = duckdb.connect()
                c.execute("SET preserve_insertion_order=false")
                r = scan.to_reader()  # noqa: F841, named in the statement
                n = c.execute(f"COPY (SELECT * FROM r) TO '{out}' (FORMAT json)").fetchone()[0]
            else:
                n = write_parquet(scan.to_batches(), out)
        return dict(wall_s=t.s, sync_s=fsync_tree(out), rows=n, bytes=size(out))
    return f


def scratch(a):
    return scratch_copy(uri(a), store(a, "lancedb_scratch"))


def delete(where):
    def f(a):
        p = scratch(a)
        tbl = lancedb.connect(p).open_table(TBL)
        before = tbl.count_rows()
        with T() as t:
            tbl.delete(where)
        s = fsync_tree(p)
        n = before - tbl.count_rows()
        rm(p)
        return dict(wall_s=t.s, sync_s=s, rows=n)
    return f


def fetch(n):
    def f(a):
        ds = dataset(a)

        def call(i):
            ids = ",".join(map(str, keys(a, n, i)))
            return ds.scanner(filter=f"id IN ({ids})", columns=COLS).to_table()
        assert call(0).num_rows >= n * 0.9
        return parallel(call, 8, 5)
    return f


def upsert(a):
    p = scratch(a)
    local = thread_local()

    def call(i):
        if not hasattr(local, "t"):
            local.t = lancedb.connect(p).open_table(TBL)
        local.t.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(upsert_batch(a, i))
    r = parallel(call, 8, 15)
    rm(p)
    return dict(r, rows_per_s=r["per_s"] * 100)


ops = {"load": load, "fetch1": fetch(1), "fetch100": fetch(100), "upsert": upsert,
       "delete_small": delete(sql_small()), "delete_big": delete(sql_big())}
for name, where in (("all", None), ("small", sql_small()), ("big", sql_big())):
    for kind in ("parquet", "json"):
        ops[f"export_{name}_{kind}"] = export(where, kind)
main(ops)

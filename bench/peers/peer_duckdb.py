"""DuckDB, on a native table with a primary key."""
import duckdb
from common import (T, data, fsync_tree, keys, main, outfile, parallel, rm, scratch_copy, size, sql_big, sql_small,
                    store, thread_local, upsert_batch)


def db(a):
    return store(a, "duckdb") + ".db"


def con(path, read_only=False):
    c = duckdb.connect(path, read_only=read_only)
    c.execute("SET preserve_insertion_order=false")
    return c


def load(a):
    rm(db(a))
    rm(db(a) + ".wal")
    with T() as t:
        c = con(db(a))
        c.execute("CREATE TABLE t(id BIGINT PRIMARY KEY, user_id BIGINT, city VARCHAR, tags VARCHAR[], score FLOAT, "
                  "created BIGINT, vector FLOAT[128])")
        c.execute(f"INSERT INTO t SELECT id,user_id,city,tags,score,created,vector::FLOAT[128] FROM '{data(a)}'")
        c.execute("CHECKPOINT")
        c.close()
    return dict(wall_s=t.s, rows=a.rows)


def export(where, kind):
    def f(a):
        c, out = con(db(a), True), outfile(a, "duck." + kind)
        rm(out)
        option = {"json": "(FORMAT json)", "parquet": "(FORMAT parquet, COMPRESSION snappy)"}[kind]
        rows = f"SELECT * FROM t{' WHERE ' + where if where else ''}"
        with T() as t:
            n = c.execute(f"COPY ({rows}) TO '{out}' {option}").fetchone()[0]
        return dict(wall_s=t.s, sync_s=fsync_tree(out), rows=n, bytes=size(out))
    return f


def delete(where):
    def f(a):
        p = scratch_copy(db(a), store(a, "duckdb_scratch") + ".db")
        c = con(p)
        before = c.execute("SELECT count(*) FROM t").fetchone()[0]
        with T() as t:
            c.execute(f"DELETE FROM t WHERE {where}")
        with T() as checkpoint:
            c.execute("CHECKPOINT")
        n = before - c.execute("SELECT count(*) FROM t").fetchone()[0]
        c.close()
        rm(p)
        return dict(wall_s=t.s, checkpoint_s=checkpoint.s, rows=n)
    return f


def fetch(n):
    def f(a):
        c0, local = con(db(a), True), thread_local()

        def call(i):
            if not hasattr(local, "c"):
                local.c = c0.cursor()
            ids = ",".join(map(str, keys(a, n, i)))
            return local.c.execute(f"SELECT * FROM t WHERE id IN ({ids})").to_arrow_table()
        assert call(0).num_rows >= n * 0.9
        return parallel(call, 8, 5)
    return f


def upsert(a):
    p = scratch_copy(db(a), store(a, "duckdb_scratch") + ".db")
    c0, local = con(p), thread_local()

    def call(i):
        if not hasattr(local, "c"):
            local.c = c0.cursor()
        local.c.register("b", upsert_batch(a, i))
        while True:
            try:
                local.c.execute("INSERT OR REPLACE INTO t SELECT id,user_id,city,tags,score,created,"
                                "vector::FLOAT[128] FROM b")
                return
            except duckdb.TransactionException:
                pass
    r = parallel(call, 8, 10)
    c0.close()
    rm(p)
    return dict(r, rows_per_s=r["per_s"] * 100)


ops = {"load": load, "fetch1": fetch(1), "fetch100": fetch(100), "upsert": upsert,
       "delete_small": delete(sql_small()), "delete_big": delete(sql_big())}
for name, where in (("all", None), ("small", sql_small()), ("big", sql_big())):
    for kind in ("parquet", "json"):
        ops[f"export_{name}_{kind}"] = export(where, kind)
main(ops)

"""Shared by the peer scripts: paths, filters, timing, the per-op command line.

Every op runs in its own process (run.py starts it), prints ONE JSON line, and times itself around the work only, so
interpreter start and imports are not in `wall_s`. `sync_s` is the extra time of fsync over what the op wrote, for peers
that do not fsync themselves.
"""
import argparse
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

DIM = 128
COLS = ["id", "user_id", "city", "tags", "score", "created", "vector"]
SMALL_CITIES = ["city_007", "city_042", "city_077"]        # 3 of 100
SMALL_USERS = list(range(3, 10000, 10))                    # 1000 of 10000
BIG_LIMIT = 3000                                           # user_id < 3000: 30 %


def sql_small():
    cities = ",".join(f"'{c}'" for c in SMALL_CITIES)
    return f"city IN ({cities}) AND user_id IN ({','.join(map(str, SMALL_USERS))})"


def sql_big():
    return f"user_id < {BIG_LIMIT}"


def base(a):
    return os.path.abspath(a.dir or os.environ.get("BENCH_DIR") or "bench-work")


def data(a):
    return os.path.join(base(a), f"w_{a.rows}.parquet")


def store(a, name):
    d = os.path.join(base(a), "stores")
    os.makedirs(d, exist_ok=True)
    return os.path.join(d, f"{name}_{a.rows}")


def outfile(a, name):
    d = os.path.join(base(a), "out")
    os.makedirs(d, exist_ok=True)
    return os.path.join(d, name)


def scratch_copy(src, dst):
    rm(dst)
    if os.path.isdir(src):
        shutil.copytree(src, dst)
    else:
        shutil.copy(src, dst)
    os.sync()
    return dst


def rm(p):
    if os.path.isdir(p):
        shutil.rmtree(p)
    elif os.path.exists(p):
        os.remove(p)


def files(p):
    return [p] if os.path.isfile(p) else [os.path.join(r, f) for r, _, fs in os.walk(p) for f in fs]


def size(p):
    return sum(map(os.path.getsize, files(p)))


def fsync_tree(p):
    t = time.perf_counter()
    for f in files(p):
        fd = os.open(f, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return time.perf_counter() - t


def pct(xs, p):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(len(xs) * p / 100))]


def parallel(call, clients, seconds):
    """call(i) from `clients` threads for `seconds`."""
    stop = time.perf_counter() + seconds
    lats = [[] for _ in range(clients)]

    def work(c):
        i = 0
        while time.perf_counter() < stop:
            t = time.perf_counter()
            call(c * 1_000_003 + i)
            lats[c].append(time.perf_counter() - t)
            i += 1
    t0 = time.perf_counter()
    with ThreadPoolExecutor(clients) as ex:
        for f in [ex.submit(work, c) for c in range(clients)]:
            f.result()
    w = time.perf_counter() - t0
    lat = [x for some in lats for x in some]
    return dict(clients=clients, n=len(lat), per_s=len(lat) / w, p50_ms=pct(lat, 50) * 1e3, p99_ms=pct(lat, 99) * 1e3)


def keys(a, n, seed):
    import numpy as np
    return np.random.default_rng(seed).integers(0, a.rows, n).tolist()


def upsert_batch(a, i, n=100):
    """Half existing keys, half new ones; as an Arrow table in the schema of the data."""
    import numpy as np
    import pyarrow as pa
    r = np.random.default_rng(1_000_000 + i)
    old = r.choice(a.rows, n // 2, replace=False)
    new = a.rows + i * (n // 2) + np.arange(n - n // 2)
    v = r.standard_normal((n, DIM)).astype("float32")
    return pa.table({
        "id": np.concatenate([old, new]).astype("int64"), "user_id": r.integers(0, 10000, n),
        "city": [f"city_{c:03d}" for c in r.integers(0, 100, n)],
        "tags": pa.array([[f"tag_{x:02d}" for x in r.integers(0, 50, 3)] for _ in range(n)], pa.list_(pa.string())),
        "score": r.random(n).astype("float32"), "created": r.integers(1_700_000_000, 1_800_000_000, n),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), DIM)})


def thread_local():
    return threading.local()


def main(ops):
    ap = argparse.ArgumentParser()
    ap.add_argument("--op", required=True, choices=sorted(ops))
    ap.add_argument("--dir")
    ap.add_argument("--rows", type=int, default=1_000_000)
    a = ap.parse_args()
    r = ops[a.op](a) or {}
    print(json.dumps({k: (round(v, 4) if isinstance(v, float) else v) for k, v in r.items()}))


class T:
    def __enter__(self):
        self.t = time.perf_counter()
        return self

    def __exit__(self, *x):
        self.s = time.perf_counter() - self.t

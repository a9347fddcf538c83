"""hnswlib and faiss (HNSW, IVF) on the files that `knarr-bench search` reads: one thread, one query a call.

  python peer_ann.py --dir $BENCH_DIR [--rows 1000000] [-n 3] [--sets c-ip,c-l2,n-cosine] [--queries 10000]

Builds on two threads. The curve is taken by one run of a tenth of the queries; rows at which recall@10 passes 0.95 and
0.99 are then taken with all queries, n times. Truth is what knarr-bench computed, or faiss by brute force.
"""
import argparse
import json
import os
import statistics
import time

import numpy as np

K = 10
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
HZ = os.sysconf("SC_CLK_TCK")

ap = argparse.ArgumentParser()
ap.add_argument("--dir", required=True)
ap.add_argument("--rows", type=int, default=1_000_000)
ap.add_argument("-n", type=int, default=3)
ap.add_argument("--sets", default="c-ip,c-l2,n-cosine")
ap.add_argument("--peers", default="hnswlib,faiss-hnsw,faiss-ivf")
ap.add_argument("--queries", type=int, default=10_000)
a = ap.parse_args()


def load(name, dim):
    return np.fromfile(os.path.join(a.dir, name), "<f4").reshape(-1, dim)


def data(which):
    if which.startswith("n-"):
        about = os.path.join(a.dir, "n.json")
        if not os.path.exists(about):
            return None
        dim = json.load(open(about))["dim"]
        return load("n_base.f32", dim), load("n_query.f32", dim)[:a.queries]
    return load(f"c_base_{a.rows}.f32", 128), load(f"c_query_{a.rows}.f32", 128)[:a.queries]


def truth(which, x, q):
    path = os.path.join(a.dir, f"{which}_{len(x)}_{len(q)}.truth")
    if os.path.exists(path):
        return np.fromfile(path, "<u4").reshape(-1, K)
    import faiss
    flat = faiss.IndexFlatL2(x.shape[1]) if which.endswith("l2") else faiss.IndexFlatIP(x.shape[1])
    flat.add(x)
    return flat.search(q, K)[1]


def recall(got, want):
    return sum(len(np.intersect1d(g, w)) for g, w in zip(got, want)) / want.size


def busy():
    f = list(map(int, open("/proc/stat").readline().split()[1:]))
    return (f[0] + f[1] + f[2] + f[5] + f[6]) / HZ


def make(peer, which, x):
    """(grid, set(value), ask(one query) -> ids)"""
    dim, l2 = x.shape[1], which.endswith("l2")
    if peer == "hnswlib":
        import hnswlib
        ix = hnswlib.Index("l2" if l2 else "cosine" if which.endswith("cosine") else "ip", dim)
        ix.init_index(len(x), ef_construction=200, M=16)
        ix.add_items(x, np.arange(len(x)), num_threads=2)
        ix.set_num_threads(1)
        return EFS, ix.set_ef, lambda v: ix.knn_query(v, K, num_threads=1)[0][0]
    import faiss
    faiss.omp_set_num_threads(2)
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    if peer == "faiss-hnsw":
        ix = faiss.IndexHNSWFlat(dim, 16, metric)
        ix.hnsw.efConstruction = 200
        grid, knob = EFS, lambda v: setattr(ix.hnsw, "efSearch", v)
    else:
        cells = 4096 if len(x) > 500_000 else 1024
        ix = faiss.index_factory(dim, f"IVF{cells},Flat", metric)
        ix.train(x[np.random.default_rng(1).choice(len(x), min(len(x), 50 * cells), replace=False)])
        grid, knob = PROBES, lambda v: setattr(ix, "nprobe", v)
    ix.add(x)
    faiss.omp_set_num_threads(1)
    return grid, knob, lambda v: ix.search(v, K)[1][0]


def ask(q, one):
    t = time.perf_counter()
    got = [one(v) for v in q]
    return len(q) / (time.perf_counter() - t), got


table = [["set", "peer", "build s", "reaches", "knob", "recall@10", "queries/s (min..max)", "foreign cpu"]]
for which in a.sets.split(","):
    got = data(which)
    if got is None:
        print(f"{which}: its files are not here")
        continue
    x, q = got
    want, q = truth(which, x, q), q[:, None, :]
    few = q[::10], want[::10]
    for peer in a.peers.split(","):
        t = time.perf_counter()
        grid, knob, one = make(peer, which, x)
        built = time.perf_counter() - t
        goals, curve = [0.95, 0.99], []
        for value in grid:
            knob(value)
            rate, found = ask(few[0], one)
            r = recall(found, few[1])
            curve.append(f"{value}:{r:.4f}@{rate:.0f}")
            while goals and (r >= goals[0] or value == grid[-1]):
                goal, rates = goals.pop(0), []
                before, own, start = busy(), time.process_time(), time.perf_counter()
                for _ in range(a.n):
                    rate, found = ask(q, one)
                    rates.append(rate)
                foreign = (busy() - before - time.process_time() + own) / (time.perf_counter() - start)
                table.append([which, peer, f"{built:.0f}", f"{goal}", str(value), f"{recall(found, want):.4f}",
                              f"{statistics.median(rates):.0f} ({min(rates):.0f}..{max(rates):.0f})",
                              f"{max(0.0, foreign):.2f}"])
            if not goals:
                break
        print(f"curve {which} {peer}: {' '.join(curve)}", flush=True)
widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
table.insert(1, ["-" * w for w in widths])
for row in table:
    print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")

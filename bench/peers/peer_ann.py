"""hnswlib and faiss (HNSW, IVF, IVF with 4-bit codes) on the files that `knarr-bench search` reads: one thread, one query
a call, recall beside every rate.

  python peer_ann.py --dir $BENCH_DIR [--rows 1000000] [-n 3] [--sets c-ip,c-l2,n-cosine] [--queries 10000]

Builds on two threads. The curve is taken by one run of 2,000 of the queries. The least knob at which they have a
recall@10 of 0.95, and of 0.99, is looked for between two points of it, raised while all queries have less, and measured
with all of them, n times. A goal that the end of the grid does not reach is shown with the recall that it has there. Truth is what knarr-bench computed, or faiss by brute force. What a call costs in
Python is taken with an index of a few rows and shown as `us a call`; it is inside the rates.

Where `knarr-bench search` left its figures in the same directory, its row comes first, and `knarr over it` compares the
rates at the same goal.
"""
import argparse
import json
import os
import statistics
import sys
import time

import numpy as np

K = 10
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
GOALS = (0.95, 0.99)
CHOOSING = 2000
# Rows added by one call while an index is built, between two lines of progress.
STEP = 50_000
HZ = os.sysconf("SC_CLK_TCK")

ap = argparse.ArgumentParser()
ap.add_argument("--dir", required=True)
ap.add_argument("--rows", type=int, default=1_000_000)
ap.add_argument("-n", type=int, default=3)
ap.add_argument("--sets", default="c-ip,c-l2,n-cosine")
ap.add_argument("--peers", default="hnswlib,faiss-hnsw,faiss-ivf,faiss-ivf4")
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


def say(text):
    print(text, file=sys.stderr, flush=True)


def fill(name, x, add):
    """Adds all rows, with progress."""
    start = said = time.perf_counter()
    for at in range(0, len(x), STEP):
        add(x[at:at + STEP], at)
        if time.perf_counter() - said > 5:
            said = time.perf_counter()
            say(f"{name}: {min(at + STEP, len(x))} of {len(x)} rows, {said - start:.0f} s")


def make(peer, which, x):
    """(grid, set(value), ask(one query) -> ids)"""
    dim, l2 = x.shape[1], which.endswith("l2")
    if peer == "hnswlib":
        import hnswlib
        ix = hnswlib.Index("l2" if l2 else "cosine" if which.endswith("cosine") else "ip", dim)
        ix.init_index(len(x), ef_construction=200, M=16)
        fill(f"{which} {peer}", x, lambda part, at: ix.add_items(part, np.arange(at, at + len(part)), num_threads=2))
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
        cells = 4096 if len(x) > 500_000 else max(1, min(1024, len(x) // 39))
        codes = "Flat" if peer == "faiss-ivf" else f"PQ{dim // 2}x4fs,RFlat"
        ix = faiss.index_factory(dim, f"IVF{cells},{codes}", metric)
        say(f"{which} {peer}: training {cells} cells")
        ix.train(x[np.random.default_rng(1).choice(len(x), min(len(x), 50 * cells), replace=False)])
        if peer == "faiss-ivf":
            grid, knob = PROBES, lambda v: setattr(ix, "nprobe", v)
        else:
            # The best by code are scored with the vectors: ten for each row wanted cost little and lose next to nothing.
            ix.k_factor = 10
            inner = faiss.downcast_index(ix.base_index)
            grid, knob = PROBES, lambda v: setattr(inner, "nprobe", v)
    fill(f"{which} {peer}", x, lambda part, at: ix.add(part))
    faiss.omp_set_num_threads(1)
    return grid, knob, lambda v: ix.search(v, K)[1][0]


def ask(q, one):
    t = time.perf_counter()
    got = [one(v) for v in q]
    return len(q) / (time.perf_counter() - t), got


def call_us(peer, which, x, q):
    """Microseconds of a call that has next to nothing to do."""
    # Codes of four bits are trained with no fewer than 624 rows.
    _, knob, one = make(peer, which, x[:640 if peer == "faiss-ivf4" else 100])
    knob(1 if "ivf" in peer else K)
    return 1e6 / ask(q, one)[0]


def ours(which, x, q):
    """Rates by goal that `knarr-bench search` measured on the same rows and queries; their rows of the table."""
    path = os.path.join(a.dir, f"search_{which}.json")
    if not os.path.exists(path):
        return {}, []
    kept = json.load(open(path))
    if (kept["rows"], kept["queries"]) != (len(x), len(q)):
        return {}, []
    rates = {g["goal"]: g["queries_per_s"] for g in kept["goals"] if g["recall"] >= g["goal"]}
    return rates, [[which, "knarr", f"{kept['build_s']:.0f}", f"{g['goal']}", f"{g['effort']:.0f}", f"{g['recall']:.4f}",
                    f"{g['queries_per_s']:.0f}", "", "", ""] for g in kept["goals"]]


def least(goal, below, value, recall_at):
    """The least knob above `below` that reaches the goal, if `value` does."""
    while value - below > 1:
        middle = (below + value) // 2
        below, value = (below, middle) if recall_at(middle) >= goal else (middle, value)
    return value


def goals_of(which, peer, x, q, want, us, rates_of_ours):
    """Rows of the table of one peer."""
    t = time.perf_counter()
    grid, knob, one = make(peer, which, x)
    built = time.perf_counter() - t
    say(f"{which} {peer}: built in {built:.0f} s")
    step = max(1, len(q) // CHOOSING)
    few, wanted = q[::step], want[::step]

    def few_at(value):
        knob(value)
        rate, found = ask(few, one)
        return recall(found, wanted), rate

    def all_at(value):
        knob(value)
        rate, found = ask(q, one)
        return recall(found, want), rate

    curve, rows = [], []
    for value in grid:
        r, rate = few_at(value)
        curve.append((value, r))
        say(f"{which} {peer}: {value}: {r:.4f} at {rate:.0f}/s")
        print(f"{'curve ' + which + ' ' + peer + ': ' if len(curve) == 1 else ''}{value}:{r:.4f}@{rate:.0f}", end=" ")
        if r >= GOALS[-1]:
            break
    print(flush=True)
    for goal in GOALS:
        value = next((v for v, r in curve if r >= goal), curve[-1][0])
        if curve[-1][1] >= goal:
            value = least(goal, max([v for v, _ in curve if v < value], default=grid[0] - 1), value, lambda v: few_at(v)[0])
        say(f"{which} {peer}: {goal} at {value}")
        while all_at(value)[0] < goal and value < grid[-1]:
            # The queries that chose were luckier than all.
            value += max(1, value // 50)
        before, own, start = busy(), time.process_time(), time.perf_counter()
        runs = [all_at(value) for _ in range(a.n)]
        foreign = (busy() - before - time.process_time() + own) / (time.perf_counter() - start)
        reached, rates = runs[0][0], [rate for _, rate in runs]
        rate = statistics.median(rates)
        over = "not reached" if reached < goal else f"{rates_of_ours[goal] / rate:.2f}x" if goal in rates_of_ours else ""
        rows.append([which, peer, f"{built:.0f}", f"{goal}", str(value), f"{reached:.4f}",
                     f"{rate:.0f} ({min(rates):.0f}..{max(rates):.0f})", f"{us:.1f}", over, f"{max(0.0, foreign):.2f}"])
    return rows


table = [["set", "index", "build s", "reaches", "knob", "recall@10", "queries/s (min..max)", "us a call",
          "knarr over it", "foreign cpu"]]
for which in a.sets.split(","):
    got = data(which)
    if got is None:
        print(f"{which}: its files are not here")
        continue
    x, q = got
    want = truth(which, x, q)
    rates_of_ours, rows = ours(which, x, q)
    table += rows
    for peer in a.peers.split(","):
        one_each = q[:, None, :]
        us = call_us(peer, which, x, one_each[::10])
        table += goals_of(which, peer, x, one_each, want, us, rates_of_ours)
widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
table.insert(1, ["-" * w for w in widths])
for row in table:
    print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")

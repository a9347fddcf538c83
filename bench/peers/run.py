"""Runs ops of the peers, each run in its own process, and prints one table.

  python run.py --dir $BENCH_DIR [-n 3] [--rows 1000000] [--only export]

Per op: the median over the runs, least and greatest; peak RSS of the process; `foreign cpu`: processors' worth of work
that anything but the op did meanwhile (a noise meter: 0 is a quiet machine). Seconds include the fsync of what was
written.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HZ = os.sysconf("SC_CLK_TCK")
EXPORTS = ["export_all_parquet", "export_all_json", "export_small_parquet", "export_big_parquet"]
CALLS = ["delete_small", "delete_big", "fetch1", "fetch100", "upsert"]
PEERS = {"lancedb": ["load", *EXPORTS, *CALLS], "duckdb": ["load", *EXPORTS, *CALLS], "polars": EXPORTS}

ap = argparse.ArgumentParser()
ap.add_argument("--dir", required=True)
ap.add_argument("--rows", type=int, default=1_000_000)
ap.add_argument("-n", type=int, default=3)
ap.add_argument("--only", default="", help="only ops whose name begins so; load runs always")
a = ap.parse_args()


def busy():
    f = list(map(int, open("/proc/stat").readline().split()[1:]))
    return (f[0] + f[1] + f[2] + f[5] + f[6]) / HZ


def one(peer, op):
    cmd = [sys.executable, os.path.join(HERE, f"peer_{peer}.py"), "--op", op, "--dir", a.dir, "--rows", str(a.rows)]
    before, start = busy(), time.time()
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, text=True)
    out = p.stdout.read()
    _, status, used = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"{peer} {op} failed")
    wall = time.time() - start
    r = json.loads(out.strip().splitlines()[-1])
    r["foreign"] = max(0.0, busy() - before - used.ru_utime - used.ru_stime) / wall
    r["peak_mib"] = used.ru_maxrss / 1024
    return r


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


table = [["peer", "op", "s with sync", "calls/s", "rows/s", "p99 ms", "peak MiB", "foreign cpu"]]
for peer, ops in PEERS.items():
    for op in ops:
        if op != "load" and not op.startswith(a.only):
            continue
        runs = [one(peer, op) for _ in range(1 if op == "load" else a.n)]
        timed = "wall_s" in runs[0]
        seconds = [r["wall_s"] + r.get("sync_s", 0) for r in runs] if timed else []
        rates = [r["rows"] / s for r, s in zip(runs, seconds)] if timed else [r.get("rows_per_s", 0) for r in runs]
        table.append([
            peer, op, spread(seconds, 3) if timed else "", "" if timed else spread([r["per_s"] for r in runs], 0),
            spread(rates, 0) if any(rates) else "", "" if timed else spread([r["p99_ms"] for r in runs], 1),
            f"{max(r['peak_mib'] for r in runs):.0f}", f"{max(r['foreign'] for r in runs):.2f}"])
widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
table.insert(1, ["-" * w for w in widths])
for row in table:
    print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")

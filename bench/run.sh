#!/bin/sh
# Builds the release, makes the input and the table once, and prints every table of bench/README.md.
#
#   bench/run.sh [--peers] [-n RUNS] [--rows ROWS]
#
#   BENCH_DIR        working directory, 20 GB free; default: target/bench
#   KNARR_CACHE_DIR  where the peers' Python environment is kept; default: ~/.cache/knarr
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
peers=
if [ "${1:-}" = --peers ]; then
    peers=yes
    shift
fi
target=${CARGO_TARGET_DIR:-target}
BENCH_DIR=${BENCH_DIR:-$target/bench}
KNARR_BIN=${KNARR_BIN:-$target/release/knarr}
export BENCH_DIR KNARR_BIN

cargo build --quiet --release -p knarr -p knarr-bench
bench() { "$target/release/knarr-bench" "$@"; }
head -1 /proc/loadavg
for command in load export delete upsert engine fetch search postings startup \
    index-build index-search index-fetch index-upsert index-startup size; do
    # With the peers it comes right before them.
    if [ "$peers" ] && [ $command = search ]; then continue; fi
    echo
    bench "$@" $command
done

if [ "$peers" ]; then
    list=$(sha256sum "$here/peers/requirements.txt" | cut -c 1-12)
    venv=${KNARR_CACHE_DIR:-$HOME/.cache/knarr}/peers-$list
    if [ ! -e "$venv/complete" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/peers/requirements.txt"
        touch "$venv/complete"
    fi
    bench "$@" generate >/dev/null
    # Set N is made by the peers' Python.
    "$venv/bin/python" "$here/peers/natural.py" --dir "$BENCH_DIR"
    # Ours again, set by set, right before the peers on the same set.
    for set in c-ip c-l2 n-cosine; do
        echo
        bench "$@" search --sets $set
        echo
        PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/peers/peer_ann.py" --dir "$BENCH_DIR" --sets $set "$@"
    done
    echo
    PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/peers/run.py" --dir "$BENCH_DIR" "$@"
fi

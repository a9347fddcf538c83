#!/bin/sh
# Runs the vendor's own Python SDKs, of v1 and V2, and the documented sample scripts against a live server, then its Go and Java
# clients where their toolchains are. The last lines name what was not tested.
#
#   sdk-tests/run.sh [pytest arguments]
#
#   KNARR_BIN        the binary to test; default: the debug build of this checkout
#   KNARR_CACHE_DIR  where the Python environment is kept between runs; default: ~/.cache/knarr
set -eu
here=$(cd "$(dirname "$0")" && pwd)

KNARR_BIN=${KNARR_BIN:-${CARGO_TARGET_DIR:-$here/../target}/debug/knarr}
[ -x "$KNARR_BIN" ] || { echo "no binary at $KNARR_BIN: run 'cargo build' first, or set KNARR_BIN" >&2; exit 1; }
KNARR_BIN=$(cd "$(dirname "$KNARR_BIN")" && pwd)/$(basename "$KNARR_BIN")
export KNARR_BIN

command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.11 or newer" >&2; exit 1; }
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv module is missing: apt-get install python3-venv" >&2
        exit 1
    fi
fi

# One environment per interpreter and list of requirements. The marker is written last, so that a broken installation
# is made again and never used.
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
list=$(sha256sum "$here/requirements.txt" | cut -c 1-12)
venv=${KNARR_CACHE_DIR:-$HOME/.cache/knarr}/sdk-tests-$version-$list
if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/complete"
fi

cd "$here"
exec env PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"

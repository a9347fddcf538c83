# Two commands matter: `make demo` shows what knarr does, `make test` proves that it does it. Both need Rust (rustup), gcc
# and Python 3, and install what else they need; Go and Maven are used where they are. One cargo profile (dev) serves both,
# so nothing is built twice.

CARGO ?= cargo
PYTHON ?= python3
# The binary that the SDK tests and the kill loops start: with named failpoints, inert unless FAILPOINTS is set.
FEATURES := --features knarr/failpoints

.PHONY: help demo build test lint sdk-test valgrind unit-test bench kill-loop storm venv
.DEFAULT_GOAL := help

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The main job on real data: create, upsert, export, delete by filter.
	$(CARGO) run --locked --quiet $(FEATURES) --bin knarr -- demo

build: ## The binary of the tests.
	$(CARGO) build --locked $(FEATURES) --bin knarr

# The cargo tests come last and on one stream, so that a run ends with the test runner's closing line.
test: lint sdk-test valgrind unit-test ## Everything: format, lints, the vendor's clients against a server, all Rust tests.

lint: ## Format and lints, warnings are errors.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings

sdk-test: build venv ## The vendor's own Python, Go and Java clients and sample scripts against a running server.
	sdk-tests/run.sh

valgrind: ## The kernels that are not plain Rust, under valgrind.
	@command -v valgrind >/dev/null || { \
	  SUDO=; [ "$$(id -u)" = 0 ] || SUDO="sudo -n"; \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq valgrind; } >/dev/null 2>&1 || true; \
	if ! command -v valgrind >/dev/null; then \
	  echo "SKIPPED: valgrind is not installed and could not be: the kernels are tested without it" >&2; exit 0; fi; \
	bin=$$($(CARGO) test --locked --workspace $(FEATURES) --lib --no-run 2>&1 | sed -n 's/.*(\(.*knarr_engine-.*\))$$/\1/p'); \
	cd crates/engine && PROPTEST_CASES=32 valgrind -q --error-exitcode=9 "$$bin" --test-threads=1 index::vector::kernel::

unit-test:
	$(CARGO) test --locked --workspace $(FEATURES) 2>&1

bench: ## Our figures, one table each, in release; run on a quiet machine (bench/README.md).
	bench/run.sh

kill-loop: ## Every kill loop for KNARR_KILL_SECONDS (600), and every failpoint at later visits.
	KNARR_KILL_SECONDS=$${KNARR_KILL_SECONDS:-600} $(CARGO) test --locked $(FEATURES) -p knarr --test it kill -- --nocapture 2>&1

storm: ## Ten million random writes and searches at once against a model.
	KNARR_TEST_LONG=1 $(CARGO) test --locked --workspace $(FEATURES) --lib storm -- --nocapture 2>&1

# Debian ships Python without venv; install it where that is possible, say so where it is not.
venv:
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "installing python3-venv"; \
	  SUDO=; [ "$$(id -u)" = 0 ] || SUDO=sudo; \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq python3-venv python3-pip >/dev/null; } || { \
	  echo "python3-venv is missing and could not be installed; install it and run make again" >&2; exit 1; }

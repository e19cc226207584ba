# Two commands do all on a fresh Debian machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO := CARGO_BUILD_TARGET=$$(packaging/target) cargo
PACKAGES := runc busybox-static iproute2 procps strace gdb uidmap util-linux user-mode-linux qemu-system-x86 erofs-utils
PEERS := crun bubblewrap podman containerd docker.io

.PHONY: setup build wheel demo gen test check unit rust system compat conformance stress bench bench-sentry fuzz clean peers

setup: $(VENV)/.packages $(VENV)/.tools $(VENV)/.musl .cache/wheels build $(VENV)/.kernel

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.packages: Makefile | $(VENV)/bin/python
	packaging/apt-install $(PACKAGES)
	touch $@

$(VENV)/.tools: pyproject.toml packaging/requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --requirement packaging/requirements-dev.txt
	touch $@

# Rust's library for musl, which rustup can add. Where there is neither, all is built with glibc: the same but for 0.3 ms of each start.
$(VENV)/.musl: | $(VENV)/bin/python
	[ "$$(packaging/target)" = x86_64-unknown-linux-musl ] || rustup target add x86_64-unknown-linux-musl || echo "no library for musl: built with glibc"
	touch $@

# What a wheel of ours depends on, for tests/packaging to install it without a network.
.cache/wheels: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip download --quiet --only-binary :all: --dest $@ 'rich>=13.7'
	touch $@

# The command and the engine, in place: the package is linked into the environment, so a change of Python needs no build.
build: $(VENV)/.musl | $(VENV)/bin/python
	$(CARGO) build --locked --profile engine -p casemate-engine -p casemate-launcher
	packaging/link-into $(VENV) target/$$(packaging/target)/engine

# The kernel that tests boot under QEMU: the distribution's own package, unpacked.
$(VENV)/.kernel: | build
	$(BIN)/python -c 'from casemate.guest.kernels import find; kernel = find("cloud"); raise SystemExit(not kernel or not kernel.maps_images())' || $(BIN)/casemate kernel install cloud
	touch $@

# dist/: the wheel, and the source that it can be built from.
wheel: setup
	$(BIN)/hatchling build

demo: setup
	$(BIN)/python demo/demo.py

# What is written from the source: its tests fail while it is stale.
gen:
	packaging/syscalls-page
	CASEMATE_GENERATE=1 $(CARGO) test --quiet --locked -p casemate-vmm --lib programs_are_what_the_rules_say

check: setup
	$(BIN)/ruff check src tests packaging
	$(BIN)/mypy
	cargo fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

rust: setup
	$(CARGO) test --locked --workspace

unit: setup
	$(BIN)/python -m pytest

test: check rust unit

peers: setup
	packaging/apt-install $(PEERS)

compat: setup
	packaging/apt-install debootstrap
	$(BIN)/python -m tests.compat.run_all

# stress-ng's classes in the sentry, STRESS_S seconds each.
stress: setup
	packaging/apt-install stress-ng
	$(BIN)/python -m tests.stress.run_all

conformance: peers
	$(BIN)/python -m tests.conformance.run_all

bench: peers
	$(BIN)/python bench/run.py
	$(BIN)/python tests/microvm/measure.py
	$(BIN)/python tests/microvm/measure_snapshot.py
	$(BIN)/python tests/microvm/measure_network.py
	packaging/apt-install debootstrap
	$(BIN)/python tests/microvm/measure_roots.py

bench-sentry: setup
	$(BIN)/python bench/sentry/run.py
	$(BIN)/python bench/sentry/workloads.py

# A long run of random drivers against every device, one of random calls against sentries (each run's seed is printed: --seed N makes the same calls), then libFuzzer with coverage for FUZZ_S seconds. What it finds stays in fuzz/found.
FUZZ_S ?= 300
COVERAGE := -Cpasses=sancov-module -Ccodegen-units=1 $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)

fuzz: setup
	CASEMATE_HOSTILE_STEPS=50000000 $(CARGO) test --locked --release -p casemate-vmm --test hostile_run
	$(BIN)/python tests/fuzz/run_fuzz.py --seconds $(FUZZ_S)
	cd fuzz && RUSTFLAGS="--cfg fuzzing $(COVERAGE)" cargo build --release --target x86_64-unknown-linux-gnu  # libFuzzer is C++
	mkdir -p fuzz/found
	cd fuzz && target/*/release/queues -max_total_time=$(FUZZ_S) -timeout=10 -max_len=4096 -artifact_prefix=found/ found corpus/queues
	mkdir -p fuzz/found-inputs
	cd fuzz && target/*/release/inputs -max_total_time=$(FUZZ_S) -timeout=10 -max_len=8192 -artifact_prefix=found-inputs/ found-inputs corpus/inputs
	mkdir -p fuzz/found-files
	cd fuzz && target/*/release/files -max_total_time=$(FUZZ_S) -timeout=10 -max_len=4096 -artifact_prefix=found-files/ found-files corpus/files

clean:
	rm -rf target build dist .cache src/casemate/_bin

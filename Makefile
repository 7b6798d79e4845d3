# The one door: everything a person or a machine does with this tree.
#
#     make build      the debug binary            make demo     see it work
#     make test       every test                  make soak     the long runs
#     make test-vm    only the cgroup v2 machine  make bench    measure against the peers
#     make lint       clippy and rustfmt          make man      the manual pages
#     make clean

SHELL := /bin/bash
CARGO ?= cargo
# Kept by cargo under the target triple, because .cargo/config.toml names one.
TRIPLE := $(shell sed -n 's/^target = "\(.*\)"/\1/p' .cargo/config.toml)
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
DEBUG_BIN := $(TARGET_DIR)/$(TRIPLE)/debug/conex
QUICK_BIN := $(TARGET_DIR)/$(TRIPLE)/quick/conex
RELEASE_BIN := $(TARGET_DIR)/$(TRIPLE)/release/conex
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

ifneq ($(NEXTEST),)
RUN_TESTS := $(CARGO) nextest run --config-file tests/nextest.toml --no-fail-fast
RUN_IGNORED := $(CARGO) nextest run --config-file tests/nextest.toml --no-fail-fast --run-ignored only
else
RUN_TESTS := $(CARGO) test --no-fail-fast
RUN_IGNORED := $(CARGO) test --no-fail-fast
IGNORED_FLAG := -- --ignored
endif

.PHONY: all build release demo test test-vm soak bench bench-images lint fixtures man clean

all: build

build:
	$(CARGO) build --workspace

release:
	$(CARGO) build --release --bin conex

# What the tests need besides cargo; a fixture that cannot be made skips its
# tests with a reason, so it does not fail the run.
fixtures:
	tests/fixtures.sh || true

test: fixtures build
	$(RUN_TESTS) --workspace

# The machine runs unit test programs of two crates too, so these are built.
test-vm: build
	tests/fixtures.sh kernel busybox
	$(CARGO) test -p conex-sys -p conex-runtime --no-run
	$(CARGO) test -p conex-tests --test vm -- --nocapture

# Long runs are ordinary tests marked #[ignore = "soak: ..."].
soak: fixtures build
	$(RUN_IGNORED) -p conex-tests $(IGNORED_FLAG)

demo: build
	CONEX=$(DEBUG_BIN) tests/demo.sh

bench:
	$(CARGO) build --profile quick --bin conex
	tests/fixtures.sh busybox || true
	CONEX=$(QUICK_BIN) bench/run
	CONEX=$(QUICK_BIN) bench/pull

bench-images:
	$(CARGO) build --profile quick --bin conex
	tests/fixtures.sh debian || true
	CONEX=$(QUICK_BIN) bench/images

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# One page a command, beside the build.
man: build
	$(DEBUG_BIN) man $(TARGET_DIR)/man

clean:
	$(CARGO) clean

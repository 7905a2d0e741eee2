# make            the release binary, build/lapstrake
# make demo       builds it, then an example image as an unprivileged user, and runs that
# make test       all tests: cargo's, a short run of every fuzz target, and those of integration/
# make differential   the same Dockerfiles by docker and by buildah, and what differs in the images
# make environments   the scenarios in every environment, which takes hours; WRITE=1 writes docs/environments.md
# make fuzz       SECONDS=600 TARGETS="parse plan": the fuzz targets for longer
# make lint       formatting, clippy, documentation, licences
# make image      images of lapstrake itself, by lapstrake: IMAGE=registry.example/lapstrake IMAGE_FLAGS=--push
# make bench      times and memory beside buildah and BuildKit; BENCH="--times 1 W2"
# make install    PREFIX=/usr/local DESTDIR=
# make clean
#
# Packages that a target needs are installed first, as root or through sudo.

PREFIX ?= /usr/local
DESTDIR ?=
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
CARGO ?= cargo
FILTER ?=
IMAGE ?= lapstrake
IMAGE_FLAGS ?=
SECONDS ?= 10
TARGETS ?=

.PHONY: all demo test test-cargo test-integration test-environments test-differential test-equality test-bases environments \
	differential fuzz lint bench image \
	install clean setup setup-test FORCE
.DEFAULT_GOAL := all

all: build/lapstrake

setup:
	@integration/setup/packages build
	@integration/setup/toolchain

# Cargo knows best what is out of date; the copy changes only when the binary did.
build/lapstrake: setup FORCE
	$(CARGO) build --release --locked --bin lapstrake
	@mkdir -p build
	@new=target/$$(rustc -vV | sed -n 's/^host: //p')/release/lapstrake; \
	 cmp -s $$new $@ || cp $$new $@

demo: build/lapstrake
	@integration/setup/packages demo
	@integration/demo --bin build/lapstrake

test: test-cargo fuzz test-integration test-environments test-differential test-equality

# What the tests need besides the binary: packages, users (and the toolchain that is pinned, which rustup fetches
# when cargo is first called, and must not twice at once), and base images, which take minutes the first time.
setup-test: setup
	@$(CARGO) --version
	@for set in test environments differential fuzz; do integration/setup/packages $$set || exit; done
	@integration/setup/users

test-bases: setup
	@integration/setup/packages test
	@integration/setup/bases test -- true

test-cargo: setup
	@integration/setup/packages test
	@integration/setup/users
	LAPSTRAKE_TEST_ARM64_BUSYBOX=$$(integration/setup/foreign arm64) $(CARGO) test --workspace --locked

fuzz: setup
	@integration/setup/packages fuzz
	CARGO='$(CARGO)' fuzz/run $(SECONDS) $(TARGETS)

test-integration: build/lapstrake
	@integration/setup/packages test
	integration/run --bin build/lapstrake $(FILTER)

# One small scenario in every environment, most in a few. Skips itself, and says why, where runc cannot work.
test-environments: build/lapstrake
	@integration/setup/packages environments
	integration/environments/run --bin build/lapstrake --quick --jobs 2 $(FILTER)

environments: build/lapstrake
	@integration/setup/packages environments
	integration/environments/run --bin build/lapstrake $(if $(WRITE),--write) $(FILTER)

# With docker alone, which is fast; it skips itself where dockerd cannot start.
test-differential: build/lapstrake
	@integration/setup/packages differential
	integration/differential/run --bin build/lapstrake $(FILTER)

# The same image in every mode.
test-equality: build/lapstrake
	@integration/setup/packages test
	integration/equality/run --bin build/lapstrake $(FILTER)

differential: test-differential
	integration/differential/run --bin build/lapstrake --peer buildah $(FILTER)

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check licenses bans sources; \
	 else echo "cargo-deny is not installed: licences and sources were not checked"; fi

bench: build/lapstrake
	@integration/setup/packages bench
	integration/bench/run --bin build/lapstrake $(BENCH)

# The times of its files are the commit's, not those of the build.
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
image: build/lapstrake
	@set -- --build-arg VERSION=$(VERSION); \
	 if commit=$$(git rev-parse HEAD 2>/dev/null); then \
	   set -- "$$@" --build-arg REVISION=$$commit --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); fi; \
	 build/lapstrake build "$$@" $(IMAGE_FLAGS) -t $(IMAGE):$(VERSION) . && \
	 build/lapstrake build "$$@" $(IMAGE_FLAGS) --target shell -t $(IMAGE):$(VERSION)-shell .

install: build/lapstrake
	install -D -m 755 build/lapstrake $(DESTDIR)$(PREFIX)/bin/lapstrake

clean:
	rm -rf target build

FORCE:

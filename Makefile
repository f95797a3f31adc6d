# SPDX-License-Identifier: MIT
# Builds, tests and installs VexFS: userspace with CMake, vexfs.ko with kbuild. `make help` lists the targets.

JOBS    ?= $(shell nproc)
BUILD   := build
HOST    := $(BUILD)/host
PREFIX  ?= /usr
DESTDIR ?=

# The kernel to build the module for; its build directory may be given as KDIR.
KVER ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVER)/build
MODULE = $(BUILD)/module-$(KVER)

# Tests run under these two; the releases are what `make deps` installs headers of.
VM_SERIES := 6.1 6.12

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
comma := ,
SAY   = @printf '\033[1m== %s\033[0m\n'
# $(call build,DIRECTORY,CMAKE OPTIONS,NINJA TARGETS)
build = mkdir -p $(1) && { cmake -G Ninja -S . -B $(1) $(2) >$(1)/configure.log 2>&1 || { cat $(1)/configure.log; exit 1; }; } && \
	ninja -C $(1) -j $(JOBS) --quiet $(3)
# Sanitizers slow down by far more than -O2 would win back, and twice the tests are to be compiled.
SANITIZED := -DVEXFS_BENCH=OFF -DVEXFS_TOOLS=OFF '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1'

.PHONY: all help deps userspace module vm-modules test demo bench bench-full bench-peers bench-metadata bench-kernel bench-native bench-durability install clean distclean format check-format tidy fuzz crash crash-vm corrupt arch

all: userspace
	@if [ -d "$(KDIR)" ]; then $(MAKE) --no-print-directory module; \
	else printf '== vexfs.ko: no headers for the running kernel %s; building for the test kernels\n' "$(KVER)"; \
	$(MAKE) --no-print-directory vm-modules; fi

help:
	@sed -n 's/^#help //p' Makefile

#help make            build userspace and vexfs.ko (for the running kernel, else for the test kernels)
#help make deps       install every Debian package needed (bare Debian 12), fetch the kernels that tests boot
#help make test       build everything, run every test: native, sanitizers, virtual machines (about 45 minutes on 2 cores)
#help make demo       a virtual machine shows what VexFS does, and checks it
#help make bench      the vector engine beside its peers on a small set (3 minutes): tables, and build/bench/ann.{json,svg}
#help make bench-full SETS="PREFIX[:l2|cosine|ip] ...": the same on larger sets, into build/bench/; see docs/performance.md
#help make bench-peers  build faiss and hnswlib for this CPU (Debian's faiss has no SIMD), for the two above
#help make bench-metadata  what create, stat, rename, unlink cost beside ext4, in instructions, in a virtual machine
#help make bench-durability  syncs, snapshots, durable inserts beside plain files; file I/O beside ext4, in instructions
#help make bench-kernel  what the kernel costs a search, beside the same core in a process, and how long preemption is off; in
#help                   instructions
#help make bench-native  what a search costs in the kernel by the clock, in User-Mode Linux (fetches 140 MB, builds 1.6 GB)
#help make module     vexfs.ko for KVER=release (default: running kernel), in build/module-release/
#help make install    PREFIX=/usr DESTDIR=: tools, man pages, header, vexfs.ko for KVER
#help make fuzz       libFuzzer on each target for FUZZ_SECONDS=60 (needs clang)
#help make crash      the crash simulation for CRASH_SECONDS=600 each
#help make corrupt    damage every block of an image, each in four ways: noticed, never wrong data, repaired
#help make crash-vm   kill CRASH_ROUNDS=50 virtual machines under load on each kernel, check that nothing synced is lost;
#help                 then power cuts at every flush of a recorded load of CUT_SECONDS=60 on each
#help make userspace  only the tools and tests;           make vm-modules: vexfs.ko for the kernels that tests boot
#help make arch       check who includes whom;          make check-format: what the tests ask of the sources
#help make format     clang-format the C++ sources;   make tidy: clang-tidy, warnings are errors
#help make clean      remove build/;                  make distclean: also the cached kernels and images

# ------------------------------------------------------------------------- packages
DEPS := build-essential cmake ninja-build pkg-config git ca-certificates python3 bc flex bison kmod libelf-dev \
	linux-headers-cloud-amd64 linux-headers-6.12-cloud-amd64 \
	libgtest-dev libgmock-dev googletest libbenchmark-dev libcli11-dev nlohmann-json3-dev \
	liburing-dev libblkid-dev uuid-dev libhnswlib-dev libfaiss-dev libopenblas-dev \
	clang clang-format clang-tidy libclang-rt-14-dev \
	qemu-system-x86 qemu-utils qemu-user g++-aarch64-linux-gnu mmdebstrap fakeroot e2fsprogs xz-utils zstd \
	packer openssh-client

deps:
	@missing=$$(for p in $(DEPS); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "== installing" $$missing; \
		$(SUDO) apt-get -qq update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >$${TMPDIR:-/tmp}/vexfs-deps.log 2>&1 \
			|| { tail -30 $${TMPDIR:-/tmp}/vexfs-deps.log; exit 1; }; \
	else echo "== all packages are installed"; fi
	@qemu/prepare $(VM_SERIES) || { \
		echo "== the installed headers may be older than the mirror: upgrading them"; \
		$(SUDO) apt-get -qq update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(DEPS) >/dev/null && \
		qemu/prepare $(VM_SERIES); }
	@echo "== kernels and root image of the virtual machines are ready"

# ------------------------------------------------------------------------- building
userspace:
	$(SAY) "userspace, in $(HOST)"
	@$(call build,$(HOST))

module:
	$(SAY) "vexfs.ko for $(KVER), in $(MODULE)"
	@mkdir -p $(MODULE)
	@kernel/build.sh $(KDIR) $(MODULE) -j $(JOBS) >$(MODULE)/log 2>&1 || { cat $(MODULE)/log; exit 1; }
	@if grep -iE 'warning:' $(MODULE)/log; then echo "vexfs.ko: warnings are errors" >&2; exit 1; fi

vm-modules:
	@set -e; for series in $(VM_SERIES); do \
		$(MAKE) --no-print-directory module KVER=$$(qemu/prepare --release $$series); done

install: userspace
	$(SAY) "installing to $(DESTDIR)$(PREFIX)"
	@DESTDIR=$(DESTDIR) cmake --install $(HOST) --prefix $(PREFIX) >/dev/null
	@if [ -f $(MODULE)/vexfs.ko ]; then \
		install -D -m 644 $(MODULE)/vexfs.ko $(DESTDIR)/lib/modules/$(KVER)/extra/vexfs.ko; \
		if [ -z "$(DESTDIR)" ]; then depmod $(KVER); fi; \
	else echo "no vexfs.ko for $(KVER): make module KVER=$(KVER) first"; fi

# ------------------------------------------------------------------------- testing
# One ctest run over several build trees, so that one summary counts everything.
$(BUILD)/test/CTestTestfile.cmake: Makefile
	@mkdir -p $(@D)
	@printf 'subdirs("%s" "%s" "%s")\n' $(abspath $(HOST) $(BUILD)/asan $(BUILD)/tsan) >$@

test: userspace vm-modules $(BUILD)/test/CTestTestfile.cmake
	$(SAY) "tests with address and undefined behaviour sanitizers, in $(BUILD)/asan"
	@$(call build,$(BUILD)/asan,-DVEXFS_SANITIZE=address$(comma)undefined $(SANITIZED))
	$(SAY) "tests with the thread sanitizer, in $(BUILD)/tsan"
	@$(call build,$(BUILD)/tsan,-DVEXFS_SANITIZE=thread $(SANITIZED))
	$(SAY) "running all tests; the log is $(BUILD)/test/ctest.log"
	@ctest --test-dir $(BUILD)/test -j $(JOBS) --no-tests=error --output-on-failure --progress \
		--output-log $(BUILD)/test/ctest.log

demo: deps userspace
	@$(MAKE) --no-print-directory module KVER=$$(qemu/prepare --release 6.1)
	@qemu/demo

# Peers for this CPU; configuring finds them there.
PEERS := $${VEXFS_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/vexfs}/peers
bench-peers:
	@bench/peers/build "$(PEERS)"

bench: userspace
	@mkdir -p $(BUILD)/bench
	@$(HOST)/bench/ann --rounds 1 --side-queries 100 --seconds 5 --json $(BUILD)/bench/ann.json --svg $(BUILD)/bench/ann.svg \
		$(BENCH_FLAGS) tests/data/rfc10k:cosine
	@$(HOST)/bench/micro --json $(BUILD)/bench/micro.json 0.01 128
	@echo "figures and plot: $(BUILD)/bench/"

# SETS: PREFIX[:metric] of files PREFIX_base, PREFIX_query, PREFIX_gt. BENCH_FLAGS: more options of build/host/bench/ann.
SETS ?=
BENCH_FLAGS ?=
bench-full:
	@if [ -z "$(strip $(SETS))" ]; then \
		echo 'make bench-full needs SETS="PREFIX[:l2|cosine|ip] ...": PREFIX_base and PREFIX_query (.fvecs .bvecs .npy) and' \
			'PREFIX_gt.ivecs are read' >&2; exit 2; fi
	@$(MAKE) --no-print-directory userspace
	@mkdir -p $(BUILD)/bench
	@$(HOST)/bench/ann --json $(BUILD)/bench/ann-full.json --svg $(BUILD)/bench/ann-full.svg $(BENCH_FLAGS) $(SETS)
	@$(HOST)/bench/micro --json $(BUILD)/bench/micro-full.json
	@echo "figures and plot: $(BUILD)/bench/"

bench-kernel: userspace
	@$(MAKE) --no-print-directory module KVER=$$(qemu/prepare --release 6.1)
	@bench/vm/search
	@bench/vm/sections

bench-native: userspace
	@bench/vm/native

bench-metadata: userspace
	@$(MAKE) --no-print-directory module KVER=$$(qemu/prepare --release 6.1)
	@bench/vm/metadata

bench-durability: userspace
	@$(HOST)/bench/durability
	@$(MAKE) --no-print-directory module KVER=$$(qemu/prepare --release 6.1)
	@bench/vm/storage

FUZZ_SECONDS ?= 60
fuzz:
	$(SAY) "fuzz targets with libFuzzer, in $(BUILD)/fuzz"
	@$(call build,$(BUILD)/fuzz,-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DVEXFS_LIBFUZZER=ON \
		-DVEXFS_SANITIZE=address$(comma)undefined $(SANITIZED),fuzz_targets)
	@set -e; for target in $(BUILD)/fuzz/tests/*_fuzz; do \
		name=$$(basename $$target); echo "== $$name for $(FUZZ_SECONDS) s"; \
		mkdir -p $(BUILD)/fuzz/corpus/$$name $(BUILD)/fuzz/found; seeds=; \
		if [ -d tests/fuzz/corpus/$$name ]; then seeds=tests/fuzz/corpus/$$name; fi; \
		$$target -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 \
			-artifact_prefix=$(BUILD)/fuzz/found/$$name- $(BUILD)/fuzz/corpus/$$name $$seeds; done

# Each of these tests prints a line of what it explored; ctest keeps the lines of those that pass in its log.
CRASH_SECONDS ?= 600
crash: userspace
	@status=0; VX_CRASH_SECONDS=$(CRASH_SECONDS) ctest --timeout $$(($(CRASH_SECONDS) * 4 + 600)) --test-dir $(HOST) -L crash -j $(JOBS) --output-on-failure --no-tests=error || status=$$?; \
	awk '/^explored: / { print; runs++; for (i = 2; i <= NF; i++) if ($$i ~ /^images/) images += $$(i - 1) } \
		END { printf "== %d runs explored %d images of power cuts and failures\n", runs, images }' \
		$(HOST)/Testing/Temporary/LastTest.log; exit $$status

corrupt: userspace
	VX_CORRUPT=all $(HOST)/tests/corrupt_blocks_test

CRASH_ROUNDS ?= 50
CUT_SECONDS ?= 60
crash-vm: userspace vm-modules
	$(SAY) "killing virtual machines under load, $(CRASH_ROUNDS) on each kernel"
	@status=0; pids=; for series in $(VM_SERIES); do \
		tests/vm/crash_rounds --kernel $$series --build $(HOST) --rounds $(CRASH_ROUNDS) & pids="$$pids $$!"; done; \
	for pid in $$pids; do wait $$pid || status=1; done; \
	for series in $(VM_SERIES); do \
		tests/vm/power_cuts --kernel $$series --build $(HOST) --seconds $(CUT_SECONDS) || status=1; done; exit $$status

arch:
	@python3 tests/arch/check_arrows.py

# ------------------------------------------------------------------------- looking after the sources
CXX_SOURCES = $(sort $(shell find kernel/core lib tools tests bench -name '*.h' -o -name '*.cc'))

format:
	$(SAY) "clang-format"
	@clang-format -i $(CXX_SOURCES)

check-format:
	@clang-format --dry-run --Werror $(CXX_SOURCES)

tidy: check-format
	$(SAY) "clang-tidy over core, lib and tools"
	@mkdir -p $(BUILD)/tidy && cmake -G Ninja -S . -B $(BUILD)/tidy -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
		-DVEXFS_BENCH=OFF -DVEXFS_TESTS=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >$(BUILD)/tidy/configure.log
	@printf '%s\n' $(filter kernel/core/%.cc lib/%.cc tools/%.cc,$(CXX_SOURCES)) | grep -v '_neon\.cc$$' | \
		xargs -P $(JOBS) -n 4 clang-tidy --quiet -p $(BUILD)/tidy --warnings-as-errors='*'

clean:
	@rm -rf $(BUILD)
	@echo "== removed $(BUILD)/"

distclean: clean
	@rm -rf "$${VEXFS_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/vexfs}"

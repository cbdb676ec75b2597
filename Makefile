# The front door. What is built and how is in meson.build; what is run is in tools/.
#   make                  the release binary, build/plane
#   make run              builds, starts a demo and prints the URL to open; Ctrl-C ends it
#   make test             everything that must pass; the last line is "N passed, N failed"
#   make test-faults      all fault tests; make soak [SECONDS=1200] [SEED=1]: random use and kill -9
#   make test-original    the original Plane's programs with ours; PLANE_ORIGINAL=.../plane
#   make coverage         the same, then which lines of src/ it executed
#   make test-threads     the same under ThreadSanitizer; TESTS="tests/integration/test_x.py" for less
#   make fuzz SECONDS=60  every fuzz target for so long; FUZZ="http1 proxy" for some of them
#   make sim [SEEDS=200]  simulated clusters with faults, a seed each; FIRST=1001 for others
#   make sim-mutants      broken variants, each of which the simulator must find
#   make sim-scale        a million keys and a thousand drones for an hour of virtual time
#   make model            checks the model of leases in tests/model/; LONG=1 for larger runs too
PREFIX ?= /usr/local
export PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

.PHONY: all examples run test test-faults test-original soak security-table test-threads coverage fuzz model sim sim-mutants sim-scale lint bench bench-coldstart bench-connect bench-proxy \
  bench-density bench-scale bench-failover bench-controllers install clean

all: build/build.ninja
	@ninja -C build --quiet

examples: all
	@ls build/examples/*.tar

run: all
	@tools/packages.sh run
	@exec tools/run-demo.sh

test: build-test/build.ninja
	@ninja -C build-test --quiet
	@tools/run-tests.sh build-test

test-faults: build-test/build.ninja
	@ninja -C build-test --quiet
	@tools/run-tests.sh build-test --faults

# The original Plane's programs with ours: PLANE_ORIGINAL=.../plane, its release build.
test-original: build-test/build.ninja
	@ninja -C build-test --quiet
	@PLANE_ORIGINAL=$(PLANE_ORIGINAL) PLANE_BUILD_DIR=build-test PYTHONDONTWRITEBYTECODE=1 \
	  /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/original

SEED ?= 1
soak: build-test/build.ninja
	@ninja -C build-test --quiet
	@PLANE_BUILD_DIR=build-test /usr/bin/python3 tests/faults/soak.py $(or $(SECONDS),1200) $(SEED)

test-threads: build-tsan/build.ninja
	@ninja -C build-tsan --quiet
	@tools/run-thread-tests.sh build-tsan $(TESTS)

coverage: build-coverage/build.ninja
	@tools/packages.sh coverage
	@ninja -C build-coverage --quiet
	@tools/coverage.sh build-coverage $(TESTS)

# The table in docs/security.md, which a test holds against what it finds.
security-table: build-test/build.ninja
	@ninja -C build-test --quiet
	@PLANE_BUILD_DIR=build-test PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/integration/comparison.py

fuzz: build-fuzz/build.ninja
	@ninja -C build-fuzz --quiet fuzzers
	@tools/run-fuzz.sh build-fuzz $(or $(SECONDS),60) $(FUZZ)

model:
	@tools/packages.sh model
	@tools/run-model.sh build-model $(if $(LONG),--long)

build-sim/tests/sim/simulator: build-sim/build.ninja FORCE
	@ninja -C build-sim --quiet tests/sim/simulator

sim: build-sim/tests/sim/simulator
	@$< --first $(or $(FIRST),1) --seeds $(or $(SEEDS),200) --totals build-sim/totals

sim-mutants: build-sim/tests/sim/simulator
	@$< --mutants --totals build-sim/totals

sim-scale: build-sim/tests/sim/simulator
	@$< --scale

lint: build-test/build.ninja
	@tools/packages.sh lint
	@ninja -C build-test --quiet
	@tools/lint.sh build-test

bench: bench-coldstart bench-connect bench-proxy bench-density bench-failover

bench-coldstart: all
	@/usr/bin/python3 bench/coldstart.py

# DB=postgres: on PostgreSQL, with one controller and with two
bench-connect: all
	@/usr/bin/python3 bench/connect$(if $(filter postgres,$(DB)),_postgres).py

bench-proxy: all
	@/usr/bin/python3 bench/proxy.py

bench-density: all
	@/usr/bin/python3 bench/density.py

bench-scale: all
	@/usr/bin/python3 bench/scale.py

bench-failover: all
	@/usr/bin/python3 bench/failover.py

bench-controllers: all
	@/usr/bin/python3 bench/controllers.py

install: all
	install -D -m 755 build/plane $(DESTDIR)$(PREFIX)/bin/plane
	for unit in packaging/systemd/*.service; do \
	  install -d $(DESTDIR)$(PREFIX)/lib/systemd/system; \
	  sed "s:/usr/local/bin/plane:$(PREFIX)/bin/plane:" $$unit \
	    >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename $$unit); done

clean:
	rm -rf build build-test build-tsan build-coverage build-fuzz build-model build-sim

# Packages are looked at each time; meson configures once and follows its files by itself after.
.PHONY: FORCE build-packages test-packages fuzz-packages
build-packages:
	@tools/packages.sh build
test-packages:
	@tools/packages.sh build test
fuzz-packages:
	@tools/packages.sh build fuzz

build/build.ninja: | build-packages
	@meson setup build --buildtype=release >/dev/null

build-test/build.ninja: | test-packages
	@meson setup build-test -Dtests=true -Db_sanitize=address,undefined >/dev/null

build-sim/build.ninja: | test-packages
	@meson setup build-sim -Dtests=true --buildtype=debugoptimized >/dev/null

build-tsan/build.ninja: | test-packages
	@meson setup build-tsan -Dtests=true -Db_sanitize=thread >/dev/null

build-coverage/build.ninja: | test-packages
	@meson setup build-coverage -Dtests=true -Db_coverage=true >/dev/null

build-fuzz/build.ninja: | fuzz-packages
	@CC=clang-14 meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined \
	  -Db_lundef=false --optimization=1 >/dev/null

# The front door. What is built and how is in meson.build; what is run is in tools/.
#   make                  the release binary, build/plane
#   make run              builds, starts a demo and prints the URL to open; Ctrl-C ends it
#   make test             everything that must pass; the last line is "N passed, N failed"
PREFIX ?= /usr/local
export PATH := /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

.PHONY: all examples run test lint bench bench-coldstart bench-connect bench-proxy bench-density install clean

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

lint: build-test/build.ninja
	@tools/packages.sh lint
	@ninja -C build-test --quiet
	@tools/lint.sh build-test

bench: bench-coldstart bench-connect bench-proxy bench-density

bench-coldstart: all
	@/usr/bin/python3 bench/coldstart.py

bench-connect: all
	@/usr/bin/python3 bench/connect.py

bench-proxy: all
	@/usr/bin/python3 bench/proxy.py

bench-density: all
	@/usr/bin/python3 bench/density.py

install: all
	install -D -m 755 build/plane $(DESTDIR)$(PREFIX)/bin/plane

clean:
	rm -rf build build-test

# Packages are looked at each time; meson configures once and follows its files by itself after.
.PHONY: build-packages test-packages
build-packages:
	@tools/packages.sh build
test-packages:
	@tools/packages.sh build test

build/build.ninja: | build-packages
	@meson setup build --buildtype=release >/dev/null

build-test/build.ninja: | test-packages
	@meson setup build-test -Dtests=true -Db_sanitize=address,undefined >/dev/null

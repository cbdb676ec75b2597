# The front door. Everything real is in meson.build and tools/.
.PHONY: all test lint clean

all:
	@tools/packages.sh build
	@test -d build || meson setup build --buildtype=release >/dev/null
	@ninja -C build

test:
	@tools/packages.sh build test
	@test -d build-test || meson setup build-test -Dtests=true -Db_sanitize=address,undefined >/dev/null
	@ninja -C build-test --quiet
	@tools/run-tests.sh build-test

lint:
	@tools/packages.sh build lint
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format-14 --dry-run -Werror
	@cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability \
		--suppress=missingIncludeSystem -I src src

clean:
	rm -rf build build-test

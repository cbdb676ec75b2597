#!/bin/bash
# The one list of Debian packages: what building, running, testing and linting need. Installs what
# is missing, says which, and touches no network when nothing is.
# usage: tools/packages.sh build|run|test|coverage|bench|fuzz|model|lint ...
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

declare -A packages=(
  [build]="gcc libc6-dev make meson ninja-build pkg-config python3 git libuv1-dev libssl-dev
    libwslay-dev libjansson-dev libcurl4-openssl-dev libpq-dev libsqlite3-dev libseccomp-dev libcap-dev
    libarchive-dev libmnl-dev libnftables-dev uthash-dev"
  [run]=""
  [test]="libcmocka-dev libasan8 libubsan1 libtsan2 python3-pytest python3-pytest-timeout
    postgresql-15 pgbouncer libfaketime python3-psycopg2 python3-websockets python3-aiohttp python3-selenium chromium chromium-driver curl openssl sqlite3
    haproxy iproute2 nftables util-linux mmdebstrap ca-certificates
    libarchive-tools docker.io node-llhttp systemd"
  [bench]="docker.io runc iproute2 nftables util-linux wrk nginx-light haproxy postgresql-15 python3-psycopg2 libfaketime python3-pytest
    python3-websockets"
  [coverage]="gcovr"
  [fuzz]="clang-14 libclang-rt-14-dev node-llhttp"
  [model]="gcc libc6-dev spin"
  [lint]="clang-format-14 clang-tidy-14 cppcheck"
)

missing=()
for set in "$@"; do
  for package in ${packages[$set]}; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
  done
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing Debian packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "This needs root and there is no sudo. As root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300
  -o Acquire::Retries=3)
"${install[@]}" update </dev/null
"${install[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null

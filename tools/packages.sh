#!/bin/bash
# The one list of Debian packages: what building, testing and linting need. Installs what is missing.
# usage: tools/packages.sh build|test|lint ...
set -euo pipefail

declare -A packages=(
  [build]="gcc libc6-dev make meson ninja-build pkg-config git libuv1-dev libssl-dev libwslay-dev
    libjansson-dev libcurl4-openssl-dev libsqlite3-dev libseccomp-dev libcap-dev libarchive-dev
    libmnl-dev libnftables-dev uthash-dev"
  [test]="libcmocka-dev libasan8 libubsan1 python3 python3-pytest python3-pytest-timeout
    python3-websockets python3-aiohttp curl sqlite3 iproute2 nftables"
  [lint]="clang-format-14 cppcheck"
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
[ "$(id -u)" = 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

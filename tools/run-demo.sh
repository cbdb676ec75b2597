#!/bin/bash
# The demo of `make run`: everything on this machine with its data in ./.plane, the whiteboard as a
# backend for the key "demo", and its URL. Ctrl-C ends it and leaves nothing behind.
# usage: tools/run-demo.sh [plane serve flags ...]
set -euo pipefail
cd "$(dirname "$0")/.."
plane=$PWD/build/plane
data=$PWD/.plane

if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || {
    echo "Sandboxes need root and there is no sudo: run make run as root." >&2
    exit 1
  }
  echo "Sandboxes need root: asking sudo."
  exec sudo "$0" "$@"
fi

"$plane" image import whiteboard build/examples/whiteboard.tar --data-dir "$data" >/dev/null
"$plane" image import echo build/examples/echo.tar --data-dir "$data" >/dev/null

# What serve prints is shown, and read here for its last line.
exec 3< <(exec "$plane" serve --data-dir "$data" "$@")
serve=$!
trap : INT TERM
controller=
while read -r line <&3; do
  echo "$line"
  case $line in
    controller*ready*) controller=${line##* } ;;
    ready*) break ;;
  esac
done
kill -0 "$serve" 2>/dev/null || { wait "$serve" || exit $?; }

if [ -n "$controller" ] && answer=$("$plane" admin --controller "$controller" connect \
  --image whiteboard --key demo --max-idle-seconds 3600); then
  echo "$answer"
  echo
  echo "Open this in two browser windows and draw:"
  echo "  $(sed -n 's/^URL: //p' <<<"$answer")"
  echo
  echo "Ctrl-C ends everything."
else
  kill -INT "$serve" 2>/dev/null || true
fi

# A signal ends the wait, not the server: it is waited for until it has cleaned up.
stopped=0
while kill -0 "$serve" 2>/dev/null; do
  wait "$serve" && status=0 || status=$?
  if [ "$status" -gt 128 ] && [ $stopped = 0 ] && kill -0 "$serve" 2>/dev/null; then
    stopped=1
    kill -INT "$serve" 2>/dev/null || true
  fi
done
exit 0

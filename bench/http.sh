#!/bin/sh
# GET / at 64 keep-alive connections against a minimal Beast server, in turns on the same machine.
# Usage: bench/http.sh [build folder] [seconds]. Needs wrk; builds its two servers. Prints requests/s and the ratio.
set -eu
build=${1:-build} seconds=${2:-5}
ninja -C "$build" http_demo beast_min >/dev/null
measure() {  # server, path
  "$build/$1" >"$build/$1.port" & pid=$!
  sleep 0.3
  wrk -t1 -c64 -d"$seconds" "http://127.0.0.1:$(cat "$build/$1.port")$2" | awk '/Requests\/sec/ {print $2}'
  kill "$pid"
}
for turn in 1 2 3; do
  ours=$(measure http_demo /) slow=$(measure http_demo /slow) peer=$(measure beast_min /)
  echo "$ours $slow $peer" | awk '{printf "myelin %.0f  by coroutine %.0f  beast %.0f requests/s  ratio %.2f\n", $1, $2, $3, $1 / $3}'
done

#!/usr/bin/env bash
# Measures what docs/performance shows: each sweep varies one thing and leaves its documents in
# docs/performance/results/SWEEP. Run on a machine that does nothing else; takes about half an hour.
#
#   benches/sweep.sh [SWEEP …]      load rate stored agents observers groups; all by default
#   BATON=… OUT=… SECONDS_EACH=… PROTOCOLS=grpc,axp STORED=… benches/sweep.sh
set -euo pipefail
cd "$(dirname "$0")/.."

baton=${BATON:-target/release/baton}
out=${OUT:-docs/performance/results}
seconds=${SECONDS_EACH:-10}
protocols=${PROTOCOLS:-grpc}
stored=${STORED:-10000,30000,100000,300000,1000000}
sweeps=("$@")
[ ${#sweeps[@]} -gt 0 ] || sweeps=(load rate stored agents observers groups)

[ -x "$baton" ] || { echo "no $baton: run cargo build --release first" >&2; exit 1; }

# bench SWEEP NAME ARGUMENTS…: one cluster of its own, one document.
bench() {
    local sweep=$1 name=$2
    shift 2
    mkdir -p "$out/$sweep"
    echo "== $sweep $name" >&2
    # The idle seconds let the nodes spread their leaders first.
    "$baton" bench --output json --protocol "$protocols" --duration "$seconds" --idle 5 "$@" \
        > "$out/$sweep/$name.json.new"
    mv "$out/$sweep/$name.json.new" "$out/$sweep/$name.json"
}

for sweep in "${sweeps[@]}"; do
    case $sweep in
    load) bench load load submit cycle push get --concurrency 1,4,16,64,256 ;;
    rate) bench rate rate submit cycle get --rate 100,300,1000,3000,10000 ;;
    stored) bench stored stored waiting cycle get --fill "$stored" --concurrency 64 --restart ;;
    agents)
        for agents in 1 4 16 64 256 1024 10000; do
            bench agents "$agents" cycle --agents "$agents" --concurrency 64
        done
        ;;
    observers) bench observers observers fan-out --concurrency 1,10,100,1000,10000 ;;
    groups)
        for groups in 1 4 16 64; do
            bench groups "$groups" submit cycle --shard-groups "$groups" --concurrency 64
        done
        ;;
    *)
        echo "no sweep is called $sweep" >&2
        exit 2
        ;;
    esac
done

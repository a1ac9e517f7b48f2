#!/bin/sh
# Tests and measures gptj on this machine's GPU: sh run.sh [STEP…]
# Without steps, all of them. Results lie in benches/results, written anew after each step.
cd "$(dirname "$0")" || exit
chmod +x bin/*
exec bin/xtask gpu-report --run --date "$(date -u +%Y-%m-%d)" "$@"

#!/usr/bin/env bash
# The Triton engine on this machine's GPU: the tests on the device first, then the benchmark. Under nine minutes.
#
#     benchmarks/gpu_check.sh              everything; rows are appended to benchmarks/results/gpu.csv
#     benchmarks/gpu_check.sh --tests      the tests only
#     benchmarks/gpu_check.sh --quick      a small benchmark, nothing is written
#
# Runs from the source tree, needs no network: Python 3.10 or later with torch, triton, numpy and pytest; jax, xarray and
# hypothesis where they are. PYTHON names the interpreter, OUTPUT another CSV file, LOGS a folder for the tests' output,
# TEST_SECONDS (270) how long the tests may take, PROFILE=1 adds a profile by Nsight Compute (ncu), if that is installed.
# With several GPUs the engine splits its runs over all of them; CUDA_VISIBLE_DEVICES chooses.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

python=${PYTHON:-python3}
logs=${LOGS:-$(mktemp -d)}
seconds=${TEST_SECONDS:-270}
mode=${1:-}
case $mode in "" | --tests | --quick) ;; *) echo "gpu_check: unknown option $mode" >&2; exit 2 ;; esac
mkdir -p "$logs"

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export SAMBALANCE_REQUIRE_ENGINES=triton     # a missing GPU fails the tests instead of skipping them
export XLA_PYTHON_CLIENT_PREALLOCATE=false   # JAX leaves memory to the others
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$logs/triton}
unset TRITON_INTERPRET

"$python" -c 'import hypothesis' 2>/dev/null || export PYTHONPATH="$PYTHONPATH:$PWD/benchmarks/without_hypothesis"

"$python" - <<'PYTHON' || exit 1
import sys
from kernels import triton_engine
reason = triton_engine.unavailable()
if reason is not None:
    sys.exit(f"gpu_check: {reason}")
import torch, triton
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(f"devices: {', '.join(names)}; python {sys.version.split()[0]}, torch {torch.__version__}, triton {triton.__version__}")
PYTHON

# Nearly all of the tests' time is compilation, on one core a process: one process for each kind of network.
files=(tests/kernels/test_triton_engine.py tests/kernels/test_triton_table.py tests/kernels/test_engines.py)
kinds="diagonal or depth3 or depth5 or linear or relu"
common="not any_problem and not cpu and not reference and not keep_their_gates"
selections=(
  "$common and diagonal" "$common and depth3" "$common and depth5" "$common and linear"
  "$common and relu and not every_rule" "$common and relu and every_rule" "$common and not ($kinds)"
)
printf '\n== tests on the device (at most %d s)\n' "$seconds"
pids=()
for i in "${!selections[@]}"; do
  timeout --signal=INT --kill-after=10 "$seconds" "$python" -m pytest -o addopts= -v -p no:cacheprovider -rfE --tb=short \
    -k "${selections[$i]}" "${files[@]}" >"$logs/tests.$i.log" 2>&1 &
  pids+=($!)
done
failed=0
for i in "${!pids[@]}"; do
  wait "${pids[$i]}"
  status=$?
  passed=$(grep -cE '::.* PASSED' "$logs/tests.$i.log")
  bad=$(grep -cE '::.* (FAILED|ERROR)' "$logs/tests.$i.log")
  case $status in
    0) outcome="all passed" ;;
    2 | 124 | 130 | 137) outcome="stopped at the time limit" ;;
    *) outcome="exit status $status" ;;
  esac
  printf '  %-58s %4d passed, %d failed: %s\n' "${selections[$i]#"$common and "}" "$passed" "$bad" "$outcome"
  if ((bad > 0)) || [[ $outcome == exit* ]] || ((passed == 0)); then
    failed=1
    tail -n 40 "$logs/tests.$i.log"
  fi
done
if ((failed)); then
  echo "gpu_check: the tests failed, nothing is timed (logs: $logs)" >&2
  exit 1
fi
[[ $mode == --tests ]] && exit 0

printf '\n== benchmark (%d s so far)\n' "$SECONDS"
arguments=()
[[ $mode == --quick ]] && arguments+=(--quick)
[[ -n ${OUTPUT:-} ]] && arguments+=(--output "$OUTPUT")
timeout $((530 - SECONDS)) "$python" benchmarks/bench_gpu.py "${arguments[@]}"
status=$?
if ((status)); then
  echo "gpu_check: the benchmark ended with status $status" >&2
  exit "$status"
fi

if [[ ${PROFILE:-} == 1 ]] && command -v ncu >/dev/null; then
  printf '\n== profile\n'
  timeout 120 ncu --set basic --kernel-name train_kernel --launch-count 3 "$python" benchmarks/bench_gpu.py --quick
fi
printf '\n== finished in %d s\n' "$SECONDS"

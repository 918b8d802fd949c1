#!/usr/bin/env bash
# The Triton engine on this machine's GPU: the tests on the device first, then the benchmark.
#
#     benchmarks/gpu_check.sh --tests       the tests (under nine minutes)
#     benchmarks/gpu_check.sh --benchmark   the benchmark (under nine minutes); rows are appended to a CSV file
#     benchmarks/gpu_check.sh               both, one after the other
#     benchmarks/gpu_check.sh --quick       a small benchmark that writes nothing
#     benchmarks/gpu_check.sh --profile     a profile of the kernel by Nsight Compute (ncu)
#     benchmarks/gpu_check.sh --dry-run     print each stage with its estimated seconds; needs no GPU
#     benchmarks/gpu_check.sh --count       count the kernels that the tests compile (minutes); needs no GPU
#
# Runs from the source tree and needs no network: Python 3.10 or later with torch, triton, numpy and pytest; pytest-xdist,
# jax, xarray and hypothesis are used where they are installed. Failed tests do not stop the benchmark, they mark its
# rows: each row says how the tests ended for this state of the kernels.
#
# PYTHON        the interpreter                       LOGS          folder for the tests' output
# OUT           folder for the CSV files and logs     OUTPUT        CSV file (default: $OUT/gpu.csv, else
# TEST_SECONDS  how long the tests may take (500)                   benchmarks/results/gpu.csv)
# BENCH_SECONDS how long the benchmark may take (520) TRITON_CACHE_DIR  compiled kernels, kept between calls
#
# With several GPUs the engine splits its runs over all of them; CUDA_VISIBLE_DEVICES chooses.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

mode=${1:-}
case $mode in "" | --tests | --benchmark | --quick | --profile | --dry-run | --count) ;; *)
  echo "gpu_check: unknown option $mode; allowed: --tests, --benchmark, --quick, --profile, --dry-run, --count" >&2
  exit 2
  ;;
esac

python=${PYTHON:-python3}
state=${TMPDIR:-/tmp}/sambalance-gpu-check-$(id -u)   # what one call leaves for the next
logs=${LOGS:-${OUT:+$OUT/logs}}
logs=${logs:-$state/logs}
output=${OUTPUT:-${OUT:+$OUT/gpu.csv}}
test_seconds=${TEST_SECONDS:-500}
bench_seconds=${BENCH_SECONDS:-520}

# Nearly all of the tests' time is compilation, on one core a process. SAMBALANCE_KERNELS=few leaves out variants that
# differ from others in one option only; each layout is still compiled.
export SAMBALANCE_KERNELS=few
files=(tests/kernels/test_triton_engine.py tests/kernels/test_triton_layout.py tests/kernels/test_engines.py)
selection="not any_problem and not cpu and not reference-float64 and not keep_their_gates"
optimizer_tests=tests/kernels/test_triton_move.py
cores=$(nproc 2>/dev/null || echo 1)
processes=$((cores > 15 ? 14 : cores > 2 ? cores - 1 : cores))

# For --dry-run: compilations of the selection, by --count, and CPU seconds of one, at the upper end. With all of them at
# the upper end the tests do not fit into TEST_SECONDS on 16 cores: they stop there and say so, or go on next time with
# the kernels that were kept.
compilations=${COMPILATIONS:-1484}
seconds_each=9

if [[ $mode == --dry-run ]]; then
  estimated=$((compilations * seconds_each / processes + 60))
  printf 'stage                                       estimated s   at most s\n'
  printf 'tests: %4d kernels on %2d processes        %12d %11d\n' "$compilations" "$processes" \
    "$estimated" "$test_seconds"
  printf "tests of SAM's kernels                      %11d %11s\n" 30 "(included)"
  printf 'C++ engine, if it is not built              %11d %11d\n' "$((600 / cores + 20))" 200
  "$python" benchmarks/bench_gpu.py --plan || exit 1
  printf 'benchmark in all                            %11s %11d\n' "" "$bench_seconds"
  printf 'profile (--profile)                         %11d %11d\n' 60 300
  exit 0
fi

if [[ $mode == --count ]]; then
  unset TRITON_INTERPRET
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" SAMBALANCE_REQUIRE_ENGINES=triton
  exec "$python" benchmarks/count_kernels.py -k "$selection" "${files[@]}"
fi

mkdir -p "$logs" "$state"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}:$state/native"
export SAMBALANCE_REQUIRE_ENGINES=triton     # a missing GPU fails the tests instead of skipping them
export XLA_PYTHON_CLIENT_PREALLOCATE=false   # JAX leaves memory to the others
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$state/triton}
unset TRITON_INTERPRET

"$python" -c 'import hypothesis' 2>/dev/null || export PYTHONPATH="$PYTHONPATH:$PWD/benchmarks/without_hypothesis"

"$python" - <<'PYTHON' || exit 1
import sys
from kernels.gpu import engine
reason = engine.unavailable()
if reason is not None:
    sys.exit(f"gpu_check: {reason}")
import torch, triton
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(f"devices: {', '.join(names)}; python {sys.version.split()[0]}, torch {torch.__version__}, triton {triton.__version__}")
PYTHON

# The outcome of the tests, for the rows of the benchmark, belongs to one state of the kernels.
version=$(cat kernels/*.py kernels/gpu/*.py kernels/sam/triton_move.py benchmarks/bench_gpu.py | sha256sum | cut -c1-16)
outcome_file=$state/tests-$version
tests_failed=0

run_tests() {
  printf '\n== tests on the device (at most %d s, %d processes)\n' "$test_seconds" "$processes"
  local workers=() status passed bad outcome
  "$python" -c 'import xdist' 2>/dev/null && workers=(-n "$processes" --dist worksteal)
  timeout --signal=INT --kill-after=10 "$test_seconds" "$python" -m pytest -o addopts= -v -p no:cacheprovider -rfE \
    --tb=short --durations=15 "${workers[@]}" -k "$selection" "${files[@]}" "$optimizer_tests" >"$logs/tests.log" 2>&1
  status=$?
  # With several processes the verdict stands before the test's name, else behind it.
  passed=$(grep -cE '\] PASSED |::.* PASSED' "$logs/tests.log")
  bad=$(grep -cE '\] (FAILED|ERROR) |::.* (FAILED|ERROR)' "$logs/tests.log")
  case $status in
    0) outcome="$passed passed" ;;
    2 | 124 | 130 | 137) outcome="$passed passed, $bad failed, stopped at the time limit" ;;
    *) outcome="$passed passed, $bad failed" ;;
  esac
  ((passed == 0)) && outcome="none passed (exit status $status)"
  printf '  %s\n' "$outcome"
  printf '%s' "$outcome" >"$outcome_file"
  if ((bad > 0 || passed == 0)) || [[ $status == 1 ]]; then
    tests_failed=1
    grep -E '^(FAILED|ERROR) ' "$logs/tests.log" | head -n 40
    tail -n 60 "$logs/tests.log"
    echo "gpu_check: the tests failed (log: $logs/tests.log); rows of the benchmark will say so" >&2
  fi
}

# The crossover between the engines needs the C++ engine; without a network, what builds it has to be there.
build_cpu_engine() {
  "$python" -c 'import _sambalance_cpu' 2>/dev/null && return
  printf '\n== the C++ engine is not built: building it\n'
  if ! timeout 200 "$python" -m pip install --quiet --no-build-isolation --no-deps --no-index \
    --config-settings=build-dir="$state/build" --target "$state/native" . >"$logs/build.log" 2>&1; then
    echo "  not built, no crossover will be measured (log: $logs/build.log)"
  fi
}

run_benchmark() {
  printf '\n== benchmark (at most %d s)\n' "$bench_seconds"
  local arguments=(--tests "$(cat "$outcome_file" 2>/dev/null || echo "not run")") status
  [[ $mode == --quick ]] && arguments+=(--quick)
  [[ -n $output ]] && arguments+=(--output "$output")
  timeout --signal=INT --kill-after=10 "$bench_seconds" "$python" benchmarks/bench_gpu.py "${arguments[@]}"
  status=$?
  if ((status)); then
    echo "gpu_check: the benchmark ended with status $status" >&2
    exit "$status"
  fi
}

run_profile() {
  if ! command -v ncu >/dev/null; then
    echo "gpu_check: --profile needs Nsight Compute (ncu)" >&2
    exit 1
  fi
  timeout 300 ncu --set basic --profile-from-start off --kernel-name train_kernel \
    "$python" benchmarks/bench_gpu.py --profile
}

case $mode in
  --tests) run_tests ;;
  --benchmark | --quick) build_cpu_engine; run_benchmark ;;
  --profile) run_profile ;;
  "") run_tests; build_cpu_engine; run_benchmark ;;
esac
printf '\n== finished in %d s\n' "$SECONDS"
exit "$tests_failed"

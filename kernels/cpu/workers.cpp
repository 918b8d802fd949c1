#include "workers.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace sambalance {

// ---- scratch memory ------------------------------------------------------------------------------------------------

// Pieces are cut from large chunks, which are kept over resets, so that a worker allocates only in its first block.
struct Workspace {
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  struct Chunk {
    std::unique_ptr<char, Free> memory;
    size_t size;
  };
  std::vector<Chunk> chunks;
  size_t current = 0, used = 0;

  void* take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    while (current < chunks.size() && used + bytes > chunks[current].size) ++current, used = 0;
    if (current == chunks.size()) {
      constexpr size_t least = size_t(1) << 20;
      const size_t size = bytes < least ? least : bytes;
      void* memory = nullptr;
      if (posix_memalign(&memory, 64, size) != 0) throw std::bad_alloc();
      chunks.push_back({std::unique_ptr<char, Free>(static_cast<char*>(memory)), size});
    }
    char* piece = chunks[current].memory.get() + used;
    used += bytes;
    return piece;
  }

  void reset() { current = used = 0; }
};

void* workspace_take(Workspace* workspace, size_t bytes) { return workspace->take(bytes); }

// ---- what the machine offers ---------------------------------------------------------------------------------------

#define SAMBALANCE_DECLARE(isa)                       \
  namespace isa {                                     \
  extern const Kernels kernels_float, kernels_double; \
  }
#if defined(SAMBALANCE_X86_LEVELS)
SAMBALANCE_DECLARE(v2)
SAMBALANCE_DECLARE(v3)
SAMBALANCE_DECLARE(v4)

std::vector<InstructionSet> available_instruction_sets() {
  __builtin_cpu_init();
  const bool level2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const bool level3 = level2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool level4 = level3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  std::vector<InstructionSet> sets;
  if (level4) sets.push_back({"v4", &v4::kernels_float, &v4::kernels_double});
  if (level3) sets.push_back({"v3", &v3::kernels_float, &v3::kernels_double});
  if (level2) sets.push_back({"v2", &v2::kernels_float, &v2::kernels_double});
  return sets;
}
#else
SAMBALANCE_DECLARE(native)

std::vector<InstructionSet> available_instruction_sets() {
  return {{"native", &native::kernels_float, &native::kernels_double}};
}
#endif

int available_cpus() {
#if defined(__linux__)
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) return CPU_COUNT(&cpus);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count > 0 ? int(count) : 1;
}

// ---- training ------------------------------------------------------------------------------------------------------

namespace {

// Joins on every way out, after asking the workers to stop.
struct Team {
  Control control;
  std::mutex mutex;
  std::condition_variable finished;
  int running = 0;
  std::exception_ptr failure;
  std::vector<std::thread> threads;

  ~Team() {
    __atomic_store_n(&control.stop, 1, __ATOMIC_RELAXED);
    for (auto& thread : threads) thread.join();
  }
};

}  // namespace

void train_all(const Kernels& kernels, const Problem& problem, const Result& result, int threads, int poll_milliseconds,
               const std::function<void(int64_t)>& poll) {
  const int64_t block = kernels.block_runs(problem, threads);
  const int64_t blocks = (problem.runs + block - 1) / block;
  const int64_t packs = blocks * (block / kernels.lanes);
  const std::unique_ptr<void, void (*)(void*)> dataset(kernels.prepare(problem), kernels.release);
  std::atomic<int64_t> next_block{0};
  Team team;  // after what the workers use, so that they are joined before it goes

  const auto work = [&] {
    try {
      Workspace workspace;
      for (int64_t i; !__atomic_load_n(&team.control.stop, __ATOMIC_RELAXED) && (i = next_block++) < blocks;) {
        workspace.reset();
        kernels.train_block(problem, dataset.get(), i * block, block, &workspace, &team.control, result);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(team.mutex);
      team.failure = std::current_exception();
      __atomic_store_n(&team.control.stop, 1, __ATOMIC_RELAXED);
    }
    const std::lock_guard<std::mutex> lock(team.mutex);
    --team.running;
    team.finished.notify_one();
  };

  const int count = int(blocks < threads ? blocks : threads);
  for (int i = 0; i < count; ++i) {
    {
      const std::lock_guard<std::mutex> lock(team.mutex);
      ++team.running;
    }
    try {
      team.threads.emplace_back(work);
    } catch (...) {  // the system gives no more threads: the ones that run do all the work
      const std::lock_guard<std::mutex> lock(team.mutex);
      --team.running;
      if (team.threads.empty()) throw;
      break;
    }
  }
  std::unique_lock<std::mutex> lock(team.mutex);
  while (team.running > 0) {
    const bool done =
        team.finished.wait_for(lock, std::chrono::milliseconds(poll_milliseconds), [&] { return team.running == 0; });
    if (done) break;
    lock.unlock();
    poll(__atomic_load_n(&team.control.pack_steps_done, __ATOMIC_RELAXED) / packs);
    lock.lock();
  }
  if (team.failure) std::rethrow_exception(team.failure);
}

double measured_peak(const Kernels& kernels, int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::thread> team;
  std::vector<double> rates(size_t(threads), 0.0);
  for (int i = 0; i < threads; ++i) {
    team.emplace_back([&, i] {
      double sink = 0, issued = 0;
      const auto start = Clock::now();
      std::chrono::duration<double> passed{};
      while (passed.count() < seconds) {
        issued += double(kernels.peak(200000, &sink));
        passed = Clock::now() - start;
      }
      rates[size_t(i)] = issued / passed.count() + (sink == 0.5 ? 1e-9 : 0.0);
    });
  }
  double sum = 0;
  for (int i = 0; i < threads; ++i) {
    team[size_t(i)].join();
    sum += rates[size_t(i)];
  }
  return sum;
}

}  // namespace sambalance

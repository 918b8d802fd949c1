// Threads over an atomic counter of blocks, and the thread that waits for them. Runs are independent and a block does
// not depend on who trains it, so results have the same bits on any number of threads.
#pragma once
#include <functional>
#include <vector>

#include "problem.h"

namespace sambalance {

// The instruction sets that this machine can run, best first.
std::vector<InstructionSet> available_instruction_sets();

// CPUs that this process may run on.
int available_cpus();

// Trains all runs. `poll` is called in the calling thread about every `poll_milliseconds`, with the steps done so far
// (of problem.steps); it may throw, which stops the workers and is passed on.
void train_all(const Kernels& kernels, const Problem& problem, const Result& result, int threads, int poll_milliseconds,
               const std::function<void(int64_t)>& poll);

// Multiply-adds (each of `lanes` lanes) per second of `threads` threads, over about `seconds`.
double measured_peak(const Kernels& kernels, int threads, double seconds);

}  // namespace sambalance

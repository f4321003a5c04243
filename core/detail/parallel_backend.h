// What a source of threads must provide. Private: exactly one of parallel_tbb.cpp and parallel_jthread.cpp is compiled.
#pragma once

namespace espalier::detail {

/// Most threads that ever help a caller.
inline constexpr int max_helpers = 255;

/// Processors this process may use, at least 1.
int processors() noexcept;
/// Makes room for `helpers` threads beside the caller's.
void prepare_helpers(int helpers);
/// Has help(k) called soon on a thread of the backend. The call may come late or, if no thread is free, after a long
/// time.
void start_helper(int k, void (*help)(int k));

}  // namespace espalier::detail

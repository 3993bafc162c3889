// Coroutines. Task<T> starts when awaited (or spawned into a Scope) and runs on one executor: a
// single-threaded I/O context of an IoPool, its home. No lock may be held across co_await.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>

namespace cyllm {

template <class T = void>
using Task = boost::asio::awaitable<T>;

// Identifies a home. Cheap to copy; comparable. Valid as long as its IoPool.
using Executor = boost::asio::any_io_executor;

// Runs `f` on `executor`, after what is queued there. Thread-safe.
void Post(const Executor& executor, std::function<void()> f);

// The executor of the coroutine that awaits it.
Task<Executor> CurrentExecutor();

// Lets everything else that is ready on this executor run first.
Task<> Yield();

}  // namespace cyllm

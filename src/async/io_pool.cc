#include "async/io_pool.h"

#include <pthread.h>

#include <boost/asio.hpp>
#include <future>
#include <string>

namespace cyllm {

namespace asio = boost::asio;

struct IoPool::Worker {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard = asio::make_work_guard(context);
  std::thread thread;
};

IoPool::IoPool(size_t threads, const char* name) {
  for (size_t i = 0; i < threads; ++i) {
    auto worker = std::make_unique<Worker>();
    worker->thread = std::thread([context = &worker->context] { context->run(); });
    pthread_setname_np(worker->thread.native_handle(), (name + std::to_string(i)).substr(0, 15).c_str());
    workers_.push_back(std::move(worker));
  }
}

IoPool::~IoPool() { Stop(); }

Executor IoPool::At(size_t index) const { return workers_[index]->context.get_executor(); }

Executor IoPool::Next() { return At(next_.fetch_add(1, std::memory_order_relaxed) % workers_.size()); }

void IoPool::Stop() {
  for (auto& worker : workers_) worker->context.stop();
  for (auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

void IoPool::RunBlocking(Task<> task) { asio::co_spawn(At(0), std::move(task), asio::use_future).get(); }

void Post(const Executor& executor, std::function<void()> f) { asio::post(executor, std::move(f)); }

Task<Executor> CurrentExecutor() { co_return co_await asio::this_coro::executor; }

Task<> Yield() { co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable); }

}  // namespace cyllm

#include "llama_cpp/large_thread.h"

#include <system_error>
#include <utility>

namespace cyllm::llama {

LargeThread::LargeThread(std::function<void()> f, bool or_less) : f_(std::move(f)) {
  const auto run = [](void* f) -> void* {
    (*static_cast<const std::function<void()>*>(f))();
    return nullptr;
  };
  void* const f_to_run = const_cast<std::function<void()>*>(&f_);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) == 0) {
    runs_ = pthread_attr_setstacksize(&attributes, kLargeStack) == 0 &&
            pthread_create(&thread_, &attributes, run, f_to_run) == 0;
    pthread_attr_destroy(&attributes);
  }
  if (runs_ || !or_less) return;
  if (const int failed = pthread_create(&thread_, nullptr, run, f_to_run); failed != 0)
    throw std::system_error(failed, std::generic_category());
  runs_ = true;
}

void LargeThread::Join() {
  if (std::exchange(runs_, false)) pthread_join(thread_, nullptr);
}

}  // namespace cyllm::llama

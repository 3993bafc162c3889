// Memory that a host lends to an engine for one call.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string_view>

namespace cyllm::engine_check {

// A copy of bytes with nothing mapped behind it, gone with this object: an engine that reads past the end, or
// later than it may, crashes.
class Lent {
 public:
  explicit Lent(std::string_view bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t room = (bytes.size() + page) / page * page;
    mapped_ = room + page;
    void* map = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) std::abort();
    map_ = static_cast<char*>(map);
    mprotect(map_ + room, page, PROT_NONE);
    data_ = map_ + room - bytes.size();
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  }
  ~Lent() { munmap(map_, mapped_); }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

  const char* data() const { return data_; }

 private:
  char* map_;
  size_t mapped_;
  char* data_;
};

// `value` as a host whose struct has `size` bytes would lend it. A newer host's fields hold no zeros.
template <class T>
class LentStruct {
 public:
  LentStruct(T value, size_t size) : lent_(Bytes(value, size)) {}
  const T* get() const { return reinterpret_cast<const T*>(lent_.data()); }

 private:
  static std::string Bytes(T value, size_t size) {
    value.size = size;
    std::string bytes(size, '\xEE');
    std::memcpy(bytes.data(), &value, size < sizeof value ? size : sizeof value);
    return bytes;
  }
  Lent lent_;
};

}  // namespace cyllm::engine_check

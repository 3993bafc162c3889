#include "worker/engine_host/library_file.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string_view>

#include "worker/engine_host/library_search.h"

namespace cyllm {

namespace fs = std::filesystem;

namespace {

// A file's bytes, read by bounds: whatever lies in it, nothing outside is touched.
class Bytes {
 public:
  explicit Bytes(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info{};
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
      void* map = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
      if (map != MAP_FAILED) view_ = {static_cast<const char*>(map), static_cast<size_t>(info.st_size)};
    }
    if (fd >= 0) close(fd);
  }
  ~Bytes() {
    if (!view_.empty()) munmap(const_cast<char*>(view_.data()), view_.size());
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  template <class T>
  std::optional<T> At(uint64_t offset) const {
    if (offset > view_.size() || view_.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, view_.data() + offset, sizeof value);
    return value;
  }
  std::string TextAt(uint64_t offset) const {
    if (offset >= view_.size()) return {};
    const std::string_view rest = view_.substr(offset);
    return std::string(rest.substr(0, rest.find('\0')));
  }

 private:
  std::string_view view_;
};

std::string MachineName(uint16_t machine) {
  if (machine == EM_X86_64) return "x86_64";
  if (machine == EM_AARCH64) return "aarch64";
  return fmt::format("machine {}", machine);
}

// The file's segments, and its dynamic section by tag.
class Elf {
 public:
  explicit Elf(const Bytes& bytes) : bytes_(bytes) {
    const auto head = bytes.At<Elf64_Ehdr>(0);
    if (!head || std::memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 || head->e_ident[EI_CLASS] != ELFCLASS64 ||
        head->e_ident[EI_DATA] != ELFDATA2LSB || head->e_type != ET_DYN)
      return;
    machine_ = MachineName(head->e_machine);
    for (uint16_t i = 0; i < head->e_phnum; ++i) {
      const auto segment = bytes.At<Elf64_Phdr>(head->e_phoff + uint64_t{i} * head->e_phentsize);
      if (!segment) return;
      if (segment->p_type == PT_LOAD) loads_.push_back(*segment);
      if (segment->p_type != PT_DYNAMIC) continue;
      for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= segment->p_filesz; at += sizeof(Elf64_Dyn)) {
        const auto entry = bytes.At<Elf64_Dyn>(segment->p_offset + at);
        if (!entry || entry->d_tag == DT_NULL) break;
        dynamic_.push_back(*entry);
      }
    }
  }
  const std::string& machine() const { return machine_; }  // empty: no such library

  std::vector<std::string> Texts(int64_t tag) const {
    std::vector<std::string> out;
    for (const Elf64_Dyn& entry : dynamic_)
      if (entry.d_tag == tag) out.push_back(Text(entry.d_un.d_val));
    return out;
  }

  // The newest GLIBC_x.y among the versions that are asked for.
  std::string Glibc() const {
    std::string newest;
    uint64_t at = OffsetOf(Value(DT_VERNEED));
    for (uint64_t left = std::min<uint64_t>(Value(DT_VERNEEDNUM), 1000); left > 0; --left) {
      const auto need = bytes_.At<Elf64_Verneed>(at);
      if (!need) break;
      uint64_t aux_at = at + need->vn_aux;
      for (uint16_t i = 0; i < need->vn_cnt; ++i) {
        const auto aux = bytes_.At<Elf64_Vernaux>(aux_at);
        if (!aux) break;
        const std::string name = Text(aux->vna_name);
        if (name.starts_with("GLIBC_2") && OlderVersion(newest, name.substr(6))) newest = name.substr(6);
        if (aux->vna_next == 0) break;
        aux_at += aux->vna_next;
      }
      if (need->vn_next == 0) break;
      at += need->vn_next;
    }
    return newest;
  }

 private:
  uint64_t Value(int64_t tag) const {
    for (const Elf64_Dyn& entry : dynamic_)
      if (entry.d_tag == tag) return entry.d_un.d_val;
    return 0;
  }
  uint64_t OffsetOf(uint64_t address) const {
    for (const Elf64_Phdr& s : loads_)
      if (address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz) return address - s.p_vaddr + s.p_offset;
    return UINT64_MAX;
  }
  std::string Text(uint64_t offset) const {
    const uint64_t table = OffsetOf(Value(DT_STRTAB));
    return table == UINT64_MAX || offset > UINT32_MAX ? "" : bytes_.TextAt(table + offset);
  }

  const Bytes& bytes_;
  std::string machine_;
  std::vector<Elf64_Phdr> loads_;
  std::vector<Elf64_Dyn> dynamic_;
};

std::vector<std::string> Folders(const std::string& list, const std::string& origin) {
  std::vector<std::string> out;
  std::string_view rest = list;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    std::string folder(rest.substr(0, end));
    for (const std::string_view word : {"${ORIGIN}", "$ORIGIN"})
      if (const size_t at = folder.find(word); at != std::string::npos)
        folder.replace(at, word.size(), origin);
    if (!folder.empty()) out.push_back(std::move(folder));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

std::string ThisMachine() {
  utsname name{};
  return uname(&name) == 0 ? name.machine : "";
}

}  // namespace

bool OlderVersion(const std::string& a, const std::string& b) {
  const auto parts = [](const std::string& text) {
    std::vector<int> out;
    for (size_t at = 0; at < text.size();
         at = text.find('.', at) == std::string::npos ? text.size() : text.find('.', at) + 1)
      out.push_back(std::atoi(text.c_str() + at));
    return out;
  };
  return parts(a) < parts(b);
}

Result<LibraryFile> ReadLibraryFile(const std::string& path) {
  const Bytes bytes(path);
  const Elf elf(bytes);
  std::error_code none;
  if (elf.machine().empty())
    return Err(MakeStatus(
        Code::kFailedPrecondition,
        path + (fs::exists(path, none) ? " is no shared library for 64-bit Linux" : " is not there")));
  LibraryFile file{elf.machine(), elf.Glibc(), elf.Texts(DT_NEEDED), {}};
  const std::string origin = fs::absolute(path, none).parent_path().string();
  for (const int64_t tag : {int64_t{DT_RPATH}, int64_t{DT_RUNPATH}})
    for (const std::string& list : elf.Texts(tag))
      for (std::string& folder : Folders(list, origin)) file.folders.push_back(std::move(folder));
  return file;
}

std::vector<std::string> WhyNotLoadable(const std::string& path) {
  std::vector<std::string> reasons, seen;
  struct Wanted {
    std::string path;
    std::vector<std::string> folders;  // of those that wanted it
  };
  std::vector<Wanted> queue{{path, {}}};
  const std::string here = ThisMachine(), libc = gnu_get_libc_version();
  for (size_t i = 0; i < queue.size(); ++i) {
    const Wanted now = queue[i];
    const auto file = ReadLibraryFile(now.path);
    const std::string name = fs::path(now.path).filename().string();
    if (!file) {
      reasons.push_back(file.error().message);
      continue;
    }
    if (file->machine != here) {
      reasons.push_back(fmt::format("{} is for {}, this machine is {}", name, file->machine, here));
      continue;
    }
    if (OlderVersion(libc, file->glibc))
      reasons.push_back(fmt::format("{} needs glibc {}, here is {}", name, file->glibc, libc));
    std::vector<std::string> folders = file->folders;
    folders.insert(folders.end(), now.folders.begin(), now.folders.end());
    for (const std::string& need : file->needs) {
      if (std::ranges::find(seen, need) != seen.end()) continue;
      seen.push_back(need);
      if (const auto found = FindLibrary(need, folders); !found) {
        reasons.push_back(fmt::format("library {} is missing (for {})", need, name));
      } else if (!found->empty()) {
        queue.push_back({*found, folders});
      }
    }
  }
  return reasons;
}

}  // namespace cyllm

#include "inference/stream_group.h"

namespace cyllm {

std::shared_ptr<StreamGroup::Member> StreamGroup::Join(Executor home, EventSource* stream) {
  auto member = std::make_shared<Member>(std::move(home));
  member->stream = stream;
  MutexLock lock(mutex_);
  members_.insert(member);
  return member;
}

void StreamGroup::Leave(const std::shared_ptr<Member>& member) {
  member->stream = nullptr;
  MutexLock lock(mutex_);
  members_.erase(member);
}

void StreamGroup::EndAll(const Status& why) {
  std::unordered_set<std::shared_ptr<Member>> members;
  {
    MutexLock lock(mutex_);
    members.swap(members_);
    for (const auto& member : members) {
      member->why = why;
      member->ended = true;
    }
  }
  for (const auto& member : members) {
    Post(member->home, [member] {
      if (member->stream) member->stream->Wake();
    });
  }
}

size_t StreamGroup::size() const {
  MutexLock lock(mutex_);
  return members_.size();
}

}  // namespace cyllm

#include "worker/isolated_slot.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>

#include "base/log.h"
#include "worker/socket_path.h"

extern char** environ;

namespace cyllm {

namespace json = boost::json;

namespace {

constexpr Millis kLost{1'000};  // without a session: what died is seen to be dead before
constexpr Millis kLoadLimit{3'600'000};

// This program, also where its file was replaced meanwhile.
std::string Program() {
  std::error_code ec;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", ec);
  return !ec && std::filesystem::exists(path, ec) ? path.string() : "/proc/self/exe";
}

// Nobody else on this machine may speak to the child.
std::string NewToken() {
  unsigned char bytes[16] = {};
  (void)!getrandom(bytes, sizeof bytes, 0);
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

// The child is told everything by us: what our own environment says to workers is not for it. Empty counts as
// unset.
std::map<std::string, std::string> Environment(const std::string& registry, const std::string& token) {
  std::map<std::string, std::string> env;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text(*entry);
    for (const std::string_view ours : {"CY_LLM_", "COORDINATOR_", "WORKER_", "GATEWAY_"})
      if (text.starts_with(ours)) env[std::string(text.substr(0, text.find('=')))] = "";
  }
  env["CY_LLM_MODEL_REGISTRY"] = registry;
  env["CY_LLM_INTERNAL_TOKEN"] = token;
  return env;
}

// The registry of the child: this model, in its own process there. When it is unused is not for the child to
// see: then the process ends.
std::string OwnRegistry(const ModelEntry& entry) {
  json::object model = json::parse(entry.options_json).as_object();
  model["engine"] = entry.engine;
  if (!entry.source.empty()) model["model_path"] = entry.source;
  return json::serialize(json::object{{entry.id, std::move(model)}});
}

}  // namespace

// Holds the model while a request is on it: what is used is not unloaded.
class UsingStream final : public EventSource {
 public:
  UsingStream(std::shared_ptr<IsolatedSlot> slot, EventStream stream)
      : slot_(std::move(slot)), stream_(std::move(stream)) {}
  ~UsingStream() override {
    MutexLock lock(slot_->mutex_);
    --slot_->used_by_;
    slot_->last_used_ = Clock::now();
  }
  Task<NextResult> Next(TimePoint wake_at) override { return stream_->Next(wake_at); }
  void Wake() override { stream_->Wake(); }

 private:
  const std::shared_ptr<IsolatedSlot> slot_;
  const EventStream stream_;
};

IsolatedSlot::IsolatedSlot(ModelEntry entry, std::shared_ptr<Residency> residency, IoPool& pool)
    : entry_(std::move(entry)), residency_(std::move(residency)), pool_(pool) {
  if (entry_.idle_unload.count() > 0) residency_->UnloadWhenIdle(this, entry_.idle_unload);
}

std::shared_ptr<IsolatedSlot> IsolatedSlot::Make(ModelEntry entry, const IsolatedSlotOptions& options,
                                                 IoPool& pool) {
  std::shared_ptr<IsolatedSlot> slot(new IsolatedSlot(std::move(entry), options.residency, pool));
  IsolatedSlot* raw = slot.get();
  {
    MutexLock lock(raw->mutex_);
    raw->known_.capabilities = options.capabilities;
  }
  const std::string socket = SocketPath(), token = NewToken();
  raw->to_.address = "unix:" + socket;
  raw->to_.name = options.worker;
  raw->to_.internal_token = token;
  raw->to_.backoff_max = Millis(200);

  SupervisorOptions supervised;
  supervised.name = fmt::format("process of model '{}'", raw->entry_.id);
  supervised.child.command = {
      Program(),
      "worker",
      "--uds-path",
      socket,
      "--health-port=-1",
      "--name",
      options.worker,
      "--engine-dir",
      options.engine_dir,
      "--model-cache",
      options.model_cache,
      "--threads",
      std::to_string(options.threads),
      "--engine-stall",
      std::to_string(std::chrono::ceil<std::chrono::seconds>(options.engine_stall).count()),
      "--preload"};
  supervised.child.env = Environment(OwnRegistry(raw->entry_), token);
  supervised.socket = socket;
  supervised.start_limit = kLoadLimit;
  supervised.stop_grace = Millis(35'000);  // its own grace, and a little to fall
  supervised.may_start = [raw](const std::function<bool()>& wanted) { return raw->MayStart(wanted); };
  supervised.ready = [raw] { return raw->Ready(); };
  supervised.trouble = [raw] { return raw->ChildTrouble(); };
  supervised.on_end = [raw] {
    raw->was_ready_ = false;
    raw->lost_.reset();
    raw->residency_->Left(raw);
  };
  raw->supervisor_ = std::make_unique<Supervisor>(std::move(supervised));
  return slot;
}

IsolatedSlot::~IsolatedSlot() {
  Close(Clock::now());
  supervisor_.reset();  // who waited may have started it once more; it asks the members below it
}

std::shared_ptr<RemoteService> IsolatedSlot::remote() const {
  MutexLock lock(mutex_);
  return remote_;
}

bool IsolatedSlot::MayStart(const std::function<bool()>& wanted) {
  const Status room = residency_->Enter(this, ExpectedBytes(entry_), wanted);
  if (!room.ok() && room.code != Code::kCancelled)
    Log()->error("model '{}': loading failed: {}", entry_.id, room.ToString());
  return room.ok();
}

bool IsolatedSlot::Ready() {
  const auto remote = this->remote();
  if (!remote || remote->state() != RemoteState::kSession) return false;
  const Snapshot snapshot = remote->Describe();
  if (!snapshot.ready) return false;  // also: the last words of the process before this one
  const ModelInfo* model = snapshot.Find(entry_.id);
  if (!model || model->state != ModelState::kReady) return false;
  residency_->Loaded(this, model->memory_bytes);
  return true;
}

std::string IsolatedSlot::ChildTrouble() {
  const auto remote = this->remote();
  const TimePoint now = Clock::now();
  if (remote && remote->state() == RemoteState::kSession) {
    lost_.reset();
    const Snapshot snapshot = remote->Describe();
    const ModelInfo* model = snapshot.Find(entry_.id);
    if (model && model->state == ModelState::kFailed)
      return was_ready_ ? "its engine stands still" : "could not load the model";
    was_ready_ |= snapshot.ready && model && model->state == ModelState::kReady;
    return "";
  }
  if (!was_ready_) return "";  // it starts
  if (!lost_) lost_ = now;
  return now - *lost_ >= kLost ? "does not answer" : "";
}

EventStream IsolatedSlot::Infer(Request request, Context context) {
  if (closed_) return EndedStream(Unavailable("the server is shutting down", "draining"));
  {
    MutexLock lock(mutex_);
    ++used_by_;
    last_used_ = Clock::now();
  }
  EventStream stream;
  if (Usable()) {
    stream = Send(std::move(request), std::move(context));
  } else {
    stream = WaitForStart(shared_from_this(), entry_.id, std::move(request), std::move(context));
  }
  return std::make_unique<UsingStream>(shared_from_this(), std::move(stream));
}

EventStream IsolatedSlot::Send(Request request, Context context) {
  request.facts.model = entry_.id;
  return remote()->Infer(std::move(request), std::move(context));
}

bool IsolatedSlot::Usable() const {
  const auto remote = this->remote();
  const bool usable =
      supervisor_->state() == ServerState::kReady && remote && remote->state() == RemoteState::kSession;
  if (usable) was_loaded_ = true;
  return usable;
}

Status IsolatedSlot::Trouble() const {
  if (closed_) return Unavailable("the server is shutting down", "draining");
  if (supervisor_->state() == ServerState::kFailed)
    return Unavailable("the model could not be loaded", "load_failed", Millis(10'000));
  return Status::Ok();
}

void IsolatedSlot::StartLoad() {
  if (closed_) return;
  {
    MutexLock lock(mutex_);
    if (!remote_) remote_ = RemoteService::Make(to_, pool_);
  }
  supervisor_->Start();
}

TimePoint IsolatedSlot::last_used() {
  MutexLock lock(mutex_);
  if (used_by_ > 0) last_used_ = Clock::now();
  return last_used_;
}

bool IsolatedSlot::UnloadIfIdle() {
  MutexLock lock(mutex_);
  const ServerState state = supervisor_->state();
  if (state == ServerState::kStopped) return true;
  if (used_by_ > 0 || state == ServerState::kStarting) return false;
  supervisor_->BeginStop();
  return true;
}

void IsolatedSlot::Unload() { supervisor_->BeginStop(); }

void IsolatedSlot::Close(TimePoint until) {
  if (closed_.exchange(true)) return;
  // It ends its requests by itself when it is told to stop; what it has not ended by then is cut off.
  constexpr Millis kFall{500};
  supervisor_->Stop(std::max(kFall, std::chrono::duration_cast<Millis>(until - Clock::now())));
  if (const auto remote = this->remote()) remote->Close();
}

ModelInfo IsolatedSlot::Describe() const {
  const auto remote = this->remote();
  const Snapshot snapshot = remote ? remote->Describe() : Snapshot();
  ModelInfo info;
  const ModelInfo* model = snapshot.Find(entry_.id);
  {
    MutexLock lock(mutex_);
    if (model && model->state == ModelState::kReady) known_ = *model;
    info = known_;
  }
  info.id = entry_.id;
  info.engine = entry_.engine;
  info.alias_of.clear();
  info.adapters = entry_.adapters;
  switch (supervisor_->state()) {
    case ServerState::kStopped:
    case ServerState::kStopping:
      info.state =
          residency_->HasRoom(this, ExpectedBytes(entry_)) ? ModelState::kAvailable : ModelState::kCrowded;
      break;
    case ServerState::kStarting:
      info.state = ModelState::kLoading;
      break;
    case ServerState::kReady:
      was_loaded_ = true;
      info.state = ModelState::kReady;
      break;
    case ServerState::kFailed:
      info.state = ModelState::kFailed;
      break;
  }
  return info;
}

struct Load IsolatedSlot::load() const {
  const auto remote = this->remote();
  return remote ? remote->Describe().load : cyllm::Load{};
}

void IsolatedSlot::CollectPrefixes(PrefixLog& log) {
  MutexLock lock(mutex_);
  if (!remote_) return;
  const PrefixChanges changes = remote_->PrefixesSince(prefix_cursor_);
  if (!changes.empty()) log.Add(changes.held, changes.dropped);
}

}  // namespace cyllm

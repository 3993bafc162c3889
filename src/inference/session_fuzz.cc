// A peer that sends anything: a session never breaks, whatever the messages are.
#include "base/log.h"
#include "inference/fake_service.h"
#include "inference/session.h"
#include "inference/wire.h"

using namespace cyllm;

namespace {

class Sink final : public SessionTransport {
 public:
  void Kick() override {}
  void Abort(const Status&) override {}
};

IoPool& Pool() {
  static auto* const pool = new IoPool(1);
  return *pool;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const scope = new Scope;
  static const bool quiet = (Log()->set_level(spdlog::level::off), true);
  static_cast<void>(quiet);
  static const auto service =
      std::make_shared<FakeService>(std::vector<Script>{{TextAnswer({"a", "b"}), Status::Ok(), false}});
  SessionOptions options;
  options.serves = service;
  options.max_payload_bytes = 4096;
  options.max_requests = 16;
  const auto session = Session::Make(options, Pool(), *scope);
  session->Start(std::make_shared<Sink>());
  cy::llm::SessionMessage hello;
  hello.add_frames()->mutable_hello()->set_version(Session::kVersion);
  hello.mutable_frames(0)->mutable_hello()->set_min_version(1);
  session->OnMessage(hello);
  EventStream stream;
  {
    Request request{{}, Payload::Of({})};
    Context context;
    context.home = Pool().At(0);
    stream = session->Infer(request, context);
  }
  // Messages one after the other: a length byte before each.
  while (size > 0) {
    const size_t length = std::min<size_t>(*data, size - 1);
    cy::llm::SessionMessage message;
    if (message.ParseFromArray(data + 1, static_cast<int>(length))) session->OnMessage(message);
    cy::llm::SessionMessage out;
    for (int i = 0; i < 8 && session->TakeMessage(&out); ++i) {
    }
    data += length + 1;
    size -= length + 1;
  }
  session->OnClosed(Unavailable("end"));
  Pool().RunBlocking([](EventStream s) -> Task<> {
    Collected got;
    co_await Collect(*s, got);
  }(std::move(stream)));
  while (session.use_count() > 1) Pool().RunBlocking(Yield());
  return 0;
}

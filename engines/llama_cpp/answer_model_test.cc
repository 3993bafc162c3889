// The real model, when CY_TEST_MODEL names its file: answers continued and resumed, odd histories, thoughts,
// tokens.
#include <functional>
#include <vector>

#include "llama_cpp/answer_fixture.h"

namespace cyllm::llama {
namespace {

using testing::AnswerModelTest;
using testing::ChoiceResult;
using testing::kToolTemplate;
using testing::kWeather;
using testing::RenderWeather;
using testing::Result;
using testing::TestRequest;

TEST_F(AnswerModelTest, ALastMessageOfTheAssistantIsContinued) {
  TestRequest request(4040);
  request.messages =
      R"([{"role":"user","content":"Count from one to ten in words."},{"role":"assistant","content":"1. 1\n2. 2\n3. "}])";
  Submit(request);
  const std::string text = gatherer_.Wait(4040).choices.at(0).text;
  EXPECT_TRUE(text.starts_with("3\n4. 4\n5. 5\n6. 6")) << text;
}

// Without a prefix cache: what one request leaves there is not computed as another would.
TEST_F(AnswerModelTest, AnInterruptedRequestGoesOnTheSame) {
  Start(*model_, false);
  uint64_t id = 7000;
  const auto check = [&](const std::function<void(TestRequest&)>& ask) {
    TestRequest whole(++id);
    whole.request.has_seed = 1;
    whole.request.seed = 11;
    ask(whole);
    Submit(whole);
    const Result expected = gatherer_.Wait(id);
    ASSERT_EQ(expected.code, 0) << expected.message;
    const std::vector<Result> cuts = gatherer_.Cuts(id);
    for (size_t cut = 0; cut < cuts.size(); cut += 5) {
      TestRequest rest(++id);
      rest.request.has_seed = 1;
      rest.request.seed = 11;
      ask(rest);
      rest.Resume(cuts[cut]);
      gatherer_.Before(id, cuts[cut]);
      Submit(rest);
      const Result got = gatherer_.Wait(id);
      ASSERT_EQ(got.code, 0) << got.message;
      for (const auto& [i, choice] : expected.choices) {
        EXPECT_EQ(got.choices.at(i).text, choice.text) << cut;
        EXPECT_EQ(got.choices.at(i).calls, choice.calls) << cut;
        EXPECT_EQ(got.choices.at(i).reason, choice.reason) << cut;
        EXPECT_EQ(got.choices.at(i).completion_tokens, choice.completion_tokens) << cut;
      }
    }
  };
  check([](TestRequest& r) { r.Chat("Count from one to ten in words."); });
  check([](TestRequest& r) {
    r.Chat("Tell me a story.").request.max_tokens = 24;
    r.request.n = 2;
    r.sampling.temperature = 1;
    r.sampling.repetition_penalty = 1.1;
    r.Stop({" the"});
  });
  check([](TestRequest& r) {
    r.Chat("What is the weather in Oslo?").tools = std::string("[") + kWeather + "]";
    r.tool_choice = R"("required")";
    r.request.parallel_tool_calls = 0;
    r.sampling.temperature = 1;
    r.request.max_tokens = 80;
  });
}

// What a model can be made to write: by logit_bias, or by the beginning of its answer.
TEST_F(AnswerModelTest, DeeplyNestedAnswersAreReadOrPassedOn) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  ChatPrompt prompt;
  ASSERT_NO_FATAL_FAILURE(RenderWeather(*model, &prompt));
  for (const size_t depth : {100u, 9'000u, 500'000u}) {
    const auto parser = prompt.parser();
    std::vector<MessagePart> parts;
    const std::string begin = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": ";
    parser->Push(begin + std::string(depth, '['), &parts);
    parser->Push("[", &parts);
    parser->Finish(&parts);
    size_t length = 0;
    for (const MessagePart& part : parts) length += part.text.size();
    EXPECT_EQ(parts.front().kind, depth < 10'000 ? MessagePart::Kind::kToolCall : MessagePart::Kind::kText)
        << depth;
    EXPECT_GT(length, depth);
  }
}

TEST_F(AnswerModelTest, MessagesStayInTheirOrderWhereTheTemplateTakesThem) {
  const auto rendered = [](const std::string& chat_template) {
    const auto model = Load(chat_template);
    ChatInput in;
    in.messages = R"([{"role":"system","content":"one"},{"role":"user","content":"q"},
        {"role":"system","content":"two"},{"role":"user","content":"r"}])";
    ChatPrompt prompt;
    ChatError error;
    EXPECT_TRUE(model && model->chat->Render(in, &prompt, &error)) << error.message;
    return prompt.text;
  };
  const std::string each =
      R"j({%- for m in messages %}{{- '[' + m.role + ':' + m.content + ']' }}{%- endfor %})j";
  EXPECT_EQ(rendered(each), "[system:one][user:q][system:two][user:r]");
  EXPECT_EQ(rendered(R"j({%- for m in messages %}{%- if m.role == 'system' and not loop.first %}
      {{- raise_exception('System message must be at the beginning.') }}{%- endif %}{%- endfor %})j" +
                     each),
            "[system:one\n\ntwo][user:q\n\nr]");
}

TEST_F(AnswerModelTest, DeepArgumentsInTheHistoryEndNobody) {
  const auto model = Load(kToolTemplate);
  ASSERT_TRUE(model);
  const auto rendered = [&](const std::string& arguments, ChatError* error, const std::string& result = "x") {
    const boost::json::value call = {
        {"id", "c"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", arguments}}}};
    const boost::json::array messages = {{{"role", "user"}, {"content", "q"}},
                                         {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}},
                                         {{"role", "tool"}, {"tool_call_id", "c"}, {"content", result}}};
    ChatInput in;
    in.messages = boost::json::serialize(messages);
    ChatPrompt prompt;
    return model->chat->Render(in, &prompt, error);
  };
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  ChatError error;
  EXPECT_TRUE(rendered(R"({"a":")" + std::string(500, '[') + R"(\"{"})", &error)) << error.message;
  EXPECT_TRUE(rendered(nested(512), &error, "f(" + nested(600) + ")")) << error.message;
  for (const size_t depth : {513u, 300'000u}) {
    EXPECT_FALSE(rendered(nested(depth), &error));
    EXPECT_STREQ(error.param, "messages");
    EXPECT_LT(error.message.size(), 500u);
    EXPECT_FALSE(rendered("{}", &error, nested(depth))) << "some templates read results as JSON";
  }
}

TEST_F(AnswerModelTest, ThoughtsOfATemplateThatThinks) {
  const auto model = Load(
      "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
      "{%- if m.reasoning_content %}{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{%- endif %}"
      "{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
      "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
      "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}"
      "{%- endif %}{%- endif %}");
  ASSERT_TRUE(model);
  ChatInput in;
  in.messages = R"([{"role":"user","content":"hi"}])";
  ChatPrompt prompt;
  ChatError error;
  ASSERT_TRUE(model->chat->Render(in, &prompt, &error)) << error.message;
  ASSERT_TRUE(prompt.parser);
  std::vector<MessagePart> parts;
  const auto parser = prompt.parser();
  parser->Push("<think>\nhm</think>yes", &parts);
  parser->Finish(&parts);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].kind, MessagePart::Kind::kReasoning);
  in.kwargs = R"({"enable_thinking":false})";
  ChatPrompt plain;
  ASSERT_TRUE(model->chat->Render(in, &plain, &error)) << error.message;
  EXPECT_FALSE(plain.parser);
}

TEST_F(AnswerModelTest, TextsToTokensAndBack) {
  TestRequest there(8030);
  there.request.kind = CYLLM_KIND_TOKENIZE;
  there.prompt = "Hello, w\u00f6rld!";
  Submit(there);
  const ChoiceResult c = gatherer_.Wait(8030).choices.at(0);
  EXPECT_EQ(c.tokens, model_->vocabulary->Tokenize(there.prompt));
  EXPECT_EQ(c.text, there.prompt);
  EXPECT_TRUE(c.pieces.empty());
  TestRequest pieces(8033);
  pieces.request.kind = CYLLM_KIND_TOKENIZE;
  pieces.sampling.logprobs = 1;
  pieces.prompt = there.prompt;
  Submit(pieces);
  std::string joined;
  for (const std::string& piece : gatherer_.Wait(8033).choices.at(0).pieces) joined += piece;
  EXPECT_EQ(joined, there.prompt);
  TestRequest back(8031);
  back.Tokens(c.tokens).request.kind = CYLLM_KIND_DETOKENIZE;
  Submit(back);
  EXPECT_EQ(gatherer_.Wait(8031).choices.at(0).text, there.prompt);
  TestRequest chat(8032);
  chat.Chat("hi").request.kind = CYLLM_KIND_TOKENIZE;
  Submit(chat);
  const ChoiceResult messages = gatherer_.Wait(8032).choices.at(0);
  EXPECT_NE(messages.text.find("<|im_start|>user\nhi<|im_end|>"), std::string::npos) << messages.text;
}

}  // namespace
}  // namespace cyllm::llama

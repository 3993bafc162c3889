// For tests with the real model, when CY_TEST_MODEL names its file: an engine with it, and tools.
#pragma once

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <memory>
#include <string>

#include "llama_cpp/engine.h"
#include "llama_cpp/test_client.h"
#include "llama_cpp/test_model.h"

namespace cyllm::llama::testing {

class AnswerModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Load("").release(); }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  static std::unique_ptr<LoadedModel> Load(const std::string& chat_template) {
    Options options;
    options.max_num_seqs = 4;
    options.max_model_len = 1024;
    options.chat_template = chat_template;
    return LoadTestModel(options);
  }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << kNoTestModel;
    Start(*model_);
  }
  void Start(const LoadedModel& model, bool prefix_caching = true) {
    engine_.reset();
    EngineLimits limits{.prefill_chunk = 256, .max_waiting = 64};
    limits.prefix_caching = prefix_caching;
    engine_ = std::make_unique<Engine>(*model.decoder, *model.vocabulary, *model.chat, limits,
                                       gatherer_.callbacks(), model.aside);
  }
  void Submit(TestRequest& request) {
    cyllm_error error{};
    error.size = sizeof error;
    ASSERT_EQ(engine_->Submit(request.get(), &error), CYLLM_OK) << error.message;
  }

  static inline LoadedModel* model_ = nullptr;
  Gatherer gatherer_;
  std::unique_ptr<Engine> engine_;
};

inline constexpr const char* kWeather = R"({"type":"function","function":{"name":"get_weather",
    "description":"The weather of a city","parameters":{"type":"object","properties":{
      "city":{"type":"string","maxLength":20},"unit":{"enum":["C","F"]}},"required":["city","unit"]}}})";
inline constexpr const char* kClock = R"({"type":"function","function":{"name":"clock"}})";

// A template that describes tools and writes calls in a form that llama.cpp finds out.
inline constexpr const char* kToolTemplate =
    R"j({%- if tools %}{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- "The functions:\n" }}
{%- for tool in tools %}{{- tool | tojson }}{{- "\n" }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\n<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})j";

inline boost::json::object Parsed(const std::string& text) {
  boost::json::error_code failed;
  const boost::json::value v = boost::json::parse(text, failed);
  EXPECT_TRUE(!failed && v.is_object()) << text;
  return v.is_object() ? v.get_object() : boost::json::object();
}

// The prompt of a question about the weather, which is a tool.
inline void RenderWeather(const LoadedModel& model, ChatPrompt* prompt) {
  ChatInput in;
  in.messages = R"([{"role":"user","content":"What is the weather in Oslo?"}])";
  in.tools = std::string("[") + kWeather + "]";
  ChatError error;
  ASSERT_TRUE(model.chat->Render(in, prompt, &error)) << error.message;
}

// CY_TEST_REPEAT: how often the constrained requests are made, each with another seed.
inline int Repeats() {
  const char* n = std::getenv("CY_TEST_REPEAT");
  return n ? std::atoi(n) : 4;
}

}  // namespace cyllm::llama::testing

// For tests with the real model, whose file CY_TEST_MODEL names.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "llama_cpp/backend.h"
#include "llama_cpp/llama_model.h"

namespace cyllm::llama::testing {

constexpr const char* kNoTestModel = "CY_TEST_MODEL names no model";

// Null when it is not set; a failure of the test when it cannot be loaded.
inline std::unique_ptr<LoadedModel> LoadTestModel(Options options) {
  const char* path = std::getenv("CY_TEST_MODEL");
  if (!path || !*path) return nullptr;
  options.model_path = path;
  std::string why;
  SetLog(nullptr);
  EXPECT_TRUE(LoadBackends(CY_LLAMA_BACKENDS, &why)) << why;
  cyllm_error error{};
  error.size = sizeof error;
  auto model = LoadModel(options, [](double, const std::string&) { return true; }, &error);
  EXPECT_TRUE(model) << error.message;
  return model;
}

}  // namespace cyllm::llama::testing

#include "gateway/model_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "inference/fake_service.h"
#include "inference/fleet.h"

namespace cyllm {
namespace {

using testing::ElementsAre;

class CountingService final : public FakeService {
 public:
  Snapshot Describe() const override {
    ++asked;
    return FakeService::Describe();
  }
  mutable std::atomic<int> asked = 0;
};

class ModelPolicyTest : public testing::Test {
 protected:
  ModelPolicyTest() { Has({Model("base", {"law", "poet"}), Model("other", {"poet"}), Model("qwen:7b", {})}); }
  static ModelInfo Model(const std::string& id, std::vector<std::string> adapters) {
    ModelInfo model;
    model.id = id;
    model.adapters = std::move(adapters);
    return model;
  }
  void Has(std::vector<ModelInfo> models) {
    Snapshot snapshot;
    snapshot.models = std::move(models);
    service_.SetSnapshot(snapshot);
  }
  // "model/adapter" that are asked of the service.
  std::string Resolved(const std::string& model, const std::string& adapter = {}) {
    dialect::Call call;
    call.requests.resize(1);
    call.requests[0].facts.model = model;
    call.requests[0].facts.adapter = adapter;
    ResolveModel(options_, names_, call);
    return call.requests[0].facts.model + "/" + call.requests[0].facts.adapter;
  }

  CountingService service_;
  ModelNames names_{service_};
  GatewayOptions options_;
};

TEST_F(ModelPolicyTest, AnAdapterIsAskedForAsAModel) {
  EXPECT_EQ(Resolved("base"), "base/");
  EXPECT_EQ(Resolved("law"), "base/law");
  EXPECT_EQ(Resolved("poet"), "base/poet") << "the first that has it";
  EXPECT_EQ(Resolved("other:poet"), "other/poet");
  EXPECT_EQ(Resolved("qwen:7b"), "qwen:7b/");
  EXPECT_EQ(Resolved("base:none"), "base:none/") << "refused by whoever has the models";
  EXPECT_EQ(Resolved("law", "poet"), "law/poet") << "as it was said";
}

TEST_F(ModelPolicyTest, OnlyUnknownNamesAreAskedFor) {
  Resolved("base");
  const int asked = service_.asked;
  for (int i = 0; i < 10; ++i) Resolved("base");
  EXPECT_EQ(service_.asked, asked);
  Has({Model("new", {"law"})});
  EXPECT_EQ(Resolved("new"), "new/");
  EXPECT_EQ(Resolved("law"), "new/law");
}

TEST_F(ModelPolicyTest, FallbackIsForWhatThereIsNot) {
  options_.model_fallback = true;
  options_.model_aliases = {{"gpt", "law"}};
  EXPECT_EQ(Resolved("law"), "base/law");
  EXPECT_EQ(Resolved("gpt"), "base/law") << "an alias may mean an adapter";
  EXPECT_EQ(Resolved("nothing"), "default/");
  Has({});
  EXPECT_EQ(Resolved("unseen"), "unseen/") << "nothing is known of any model";
}

TEST_F(ModelPolicyTest, WhatIsAwayIsStillMeant) {
  options_.model_fallback = true;
  ASSERT_EQ(Resolved("law"), "base/law");
  Has({Model("other", {"poet"})});
  EXPECT_EQ(Resolved("law"), "base/law");
  EXPECT_EQ(Resolved("base:poet"), "base/poet");
  EXPECT_EQ(Resolved("base"), "base/") << "no case for the fallback";
  EXPECT_EQ(Resolved("poet"), "other/poet") << "who is here, first";
  Has({});
  EXPECT_EQ(Resolved("law"), "base/law");
  const TimePoint later = Clock::now() + Fleet::kRemembered;
  Has({Model("new", {})});
  EXPECT_FALSE(names_.Find("law", later));
  Has({Model("base", {}), Model("new", {})});
  EXPECT_FALSE(names_.Find("law", later)) << "it is back, without the adapter";
}

TEST_F(ModelPolicyTest, AdaptersAndAliasesAreListed) {
  options_.model_aliases = {{"gpt", "base"}, {"pen", "poet"}, {"no", "nothing"}};
  std::vector<std::string> listed;
  for (const ModelInfo& m : WithAliases(options_, service_.Describe()).models)
    listed.push_back(m.id + "<" + m.alias_of + (m.adapter.empty() ? "" : "+" + m.adapter));
  EXPECT_THAT(listed, ElementsAre("base<", "gpt<base", "law<base+law", "other<", "pen<poet+poet",
                                  "poet<base+poet", "qwen:7b<"));
}

}  // namespace
}  // namespace cyllm

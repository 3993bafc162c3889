#include "llama_cpp/adapter_file.h"

#include <ggml-cpp.h>
#include <gguf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "llama_cpp/test_lora.h"

namespace cyllm::llama {
namespace {

using testing::TestLora;
using testing::WriteLora;

struct Part {
  std::vector<int64_t> size;  // columns, rows
  std::vector<float> values;
  bool operator==(const Part&) const = default;
};

class AdapterFileTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A model of 16 columns in, 12 out, as far as an adapter sees it.
  std::string Model() const {
    const ggml_context_ptr own(ggml_init({1 << 16, nullptr, false}));
    const gguf_context_ptr out(gguf_init_empty());
    gguf_set_val_str(out.get(), "general.architecture", "llama");
    ggml_tensor* tensor = ggml_new_tensor_2d(own.get(), GGML_TYPE_F32, 16, 12);
    ggml_set_name(tensor, "blk.0.attn_q.weight");
    std::memset(tensor->data, 0, ggml_nbytes(tensor));
    gguf_add_tensor(out.get(), tensor);
    EXPECT_TRUE(gguf_write_to_file(out.get(), Path("model").c_str(), false));
    return Path("model");
  }
  std::string Adapter(const TestLora& lora) const {
    EXPECT_TRUE(WriteLora(Model(), Path("adapter"), lora));
    return Path("adapter");
  }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  static std::string Wrong(const std::string& path) {
    std::string why;
    EXPECT_FALSE(OpenAdapter(path, "llama", true, &why));
    return why;
  }
  static Part Read(const FilePtr& file, const char* name, float* alpha) {
    ggml_context* loaded = nullptr;
    std::rewind(file.get());
    const gguf_context_ptr gguf(gguf_init_from_file_ptr(file.get(), {false, &loaded}));
    const ggml_context_ptr owner(loaded);
    *alpha = gguf_get_val_f32(gguf.get(), gguf_find_key(gguf.get(), "adapter.lora.alpha"));
    const ggml_tensor* t = ggml_get_tensor(loaded, name);
    Part out{{t->ne[0], t->ne[1]}, std::vector<float>(static_cast<size_t>(ggml_nelements(t)))};
    if (t->type == GGML_TYPE_F32) {
      std::memcpy(out.values.data(), t->data, ggml_nbytes(t));
    } else {
      ggml_get_type_traits(t->type)->to_float(t->data, out.values.data(), ggml_nelements(t));
    }
    return out;
  }

  const std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                        ("cyllm_adapter_" + std::to_string(::getpid()) +
                                         ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(AdapterFileTest, SaysWhatIsWrong) {
  EXPECT_EQ(Wrong(Path("none")), "cannot be read");
  std::ofstream(Path("text")) << "no GGUF at all";
  EXPECT_EQ(Wrong(Path("text")), "is no GGUF file");
  EXPECT_EQ(Wrong(Model()), "is no adapter");
  EXPECT_EQ(Wrong(Adapter({.architecture = "qwen2"})),
            "is for another model: its architecture is 'qwen2', the model's 'llama'");
  const std::string cut = Adapter({});
  std::filesystem::resize_file(cut, std::filesystem::file_size(cut) - 8);
  EXPECT_EQ(Wrong(cut), "is damaged");
  EXPECT_EQ(Wrong(Adapter({.alora = true})), "is an activated LoRA (aLoRA), which is not offered");
  EXPECT_EQ(Wrong(Adapter({.part = "none"})), "changes nothing: it has no tensors");
}

TEST_F(AdapterFileTest, OddRanksStayAsTheyAre) {
  const std::string path = Adapter({.rank = 3, .alpha = 7});
  std::string why;
  const FilePtr file = OpenAdapter(path, "llama", true, &why);
  ASSERT_TRUE(file) << why;
  float alpha = 0;
  EXPECT_EQ(Read(file, "blk.0.attn_q.weight.lora_a", &alpha).size, (std::vector<int64_t>{16, 3}));
  EXPECT_EQ(alpha, 7);
}

TEST_F(AdapterFileTest, EvenRanksGetZerosAndTheirFactor) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
    const std::string path = Adapter({.rank = 8, .alpha = 12, .type = type});
    std::string why;
    const FilePtr plain = OpenAdapter(path, "llama", false, &why),
                  exact = OpenAdapter(path, "llama", true, &why);
    ASSERT_TRUE(plain && exact) << why;
    float alpha = 0;
    Part a = Read(plain, "blk.0.attn_q.weight.lora_a", &alpha);
    Part b = Read(plain, "blk.0.attn_q.weight.lora_b", &alpha);
    EXPECT_EQ(alpha, 12);
    a.size[1] = 9;
    a.values.resize(9 * 16);
    Part padded{{9, 12}, {}};
    for (size_t row = 0; row < 12; ++row) {
      for (size_t i = 0; i < 8; ++i) padded.values.push_back(b.values[row * 8 + i] * 1.5f);
      padded.values.push_back(0);
    }
    EXPECT_EQ(Read(exact, "blk.0.attn_q.weight.lora_a", &alpha), a);
    EXPECT_EQ(Read(exact, "blk.0.attn_q.weight.lora_b", &alpha), padded);
    EXPECT_EQ(alpha, 0);
  }
}

}  // namespace
}  // namespace cyllm::llama

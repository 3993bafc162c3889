// requantize IN OUT: a GGUF as Q4_0, by llama.cpp's own call, from whatever type it has.
#include <llama.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: requantize IN.gguf OUT.gguf\n");
    return 2;
  }
  ggml_backend_load_all();
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype = LLAMA_FTYPE_MOSTLY_Q4_0;
  params.allow_requantize = true;
  return static_cast<int>(llama_model_quantize(argv[1], argv[2], &params));
}

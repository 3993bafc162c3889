// Settings that every server process has.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"

namespace cyllm {

struct ProcessSettings {
  std::string log_level = "info";
  std::string log_format = "text";
  double drain_timeout = 30;  // seconds
  int64_t io_threads = 0;     // 0: chosen from the number of cores
  std::string internal_token;
  bool insecure = false;
  std::string tls_cert, tls_key, tls_ca;  // paths

  void DeclareLog(Settings& settings);     // the log only
  void DeclareServer(Settings& settings);  // log, drain, I/O threads
  // `insecure_variables`: besides CY_LLM_INSECURE.
  void DeclareInsecure(Settings& settings, std::string help, std::vector<EnvVar> insecure_variables = {});
  void DeclareInternalToken(Settings& settings, std::string help);
  void DeclareTls(Settings& settings, bool serves_grpc);
};

// INVALID_ARGUMENT when one of `listen` is public although `token` is empty and `insecure` is false. `how`
// says how to give a token.
Status CheckPublicBind(const std::vector<std::string>& listen, const std::string& token, bool insecure,
                       const std::string& how);

// A token that a client can send in a header: visible ASCII.
SettingCheck TokenCheck();

}  // namespace cyllm

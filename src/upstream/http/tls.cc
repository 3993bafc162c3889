#include "upstream/http/tls.h"

#include <boost/asio/ssl.hpp>

namespace cyllm {

namespace ssl = boost::asio::ssl;

Result<std::shared_ptr<ssl::context>> MakeTls(const TlsFiles& files) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  boost::system::error_code ec;
  context->set_verify_mode(ssl::verify_peer, ec);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  const auto use = [&](const std::string& file, auto&& load) {
    ec = {};
    if (!file.empty()) load();
    return ec ? InvalidArgument("TLS: " + file + " cannot be used: " + ec.message()) : Status::Ok();
  };
  if (files.ca.empty()) context->set_default_verify_paths(ec);
  if (Status s = use(files.ca, [&] { context->load_verify_file(files.ca, ec); }); !s.ok()) return Err(s);
  if (files.cert.empty() != files.key.empty())
    return Err(InvalidArgument("TLS: a certificate needs its key, and a key its certificate"));
  if (Status s = use(files.cert, [&] { context->use_certificate_chain_file(files.cert, ec); }); !s.ok())
    return Err(s);
  if (Status s = use(files.key, [&] { context->use_private_key_file(files.key, ssl::context::pem, ec); });
      !s.ok())
    return Err(s);
  return context;
}

}  // namespace cyllm

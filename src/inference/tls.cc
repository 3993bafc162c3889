#include "inference/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>

namespace cyllm {
namespace {

namespace tls = grpc::experimental;

constexpr unsigned kReadAgainSeconds = 10;

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Closer>;

Owned<std::FILE> Open(const std::string& path) { return Owned<std::FILE>(std::fopen(path.c_str(), "re")); }

Owned<X509> ReadCert(const std::string& path) {
  const auto file = Open(path);
  return Owned<X509>(file ? PEM_read_X509(file.get(), nullptr, nullptr, nullptr) : nullptr);
}

int NoPassphrase(char*, int, int, void*) { return 0; }

Owned<EVP_PKEY> ReadKey(const std::string& path) {
  const auto file = Open(path);
  return Owned<EVP_PKEY>(file ? PEM_read_PrivateKey(file.get(), nullptr, NoPassphrase, nullptr) : nullptr);
}

std::shared_ptr<tls::CertificateProviderInterface> Watch(const GrpcTls& files) {
  return std::make_shared<tls::FileWatcherCertificateProvider>(files.key, files.cert, files.ca,
                                                               kReadAgainSeconds);
}

bool IsUnix(const std::string& address) { return address.starts_with("unix:"); }

}  // namespace

Status CheckTls(const GrpcTls& files) {
  if (files.cert.empty() != files.key.empty())
    return InvalidArgument(files.cert.empty() ? "tls.key (CY_LLM_GRPC_TLS_KEY) needs tls.cert beside it"
                                              : "tls.cert (CY_LLM_GRPC_TLS_CERT) needs tls.key beside it");
  if (!files.ca.empty() && !ReadCert(files.ca))
    return InvalidArgument("tls.ca: " + files.ca + " cannot be read, or is no PEM certificate");
  if (files.cert.empty()) return Status::Ok();
  const auto cert = ReadCert(files.cert);
  if (!cert) return InvalidArgument("tls.cert: " + files.cert + " cannot be read, or is no PEM certificate");
  const auto key = ReadKey(files.key);
  if (!key)
    return InvalidArgument("tls.key: " + files.key +
                           " cannot be read, or is no PEM key without a passphrase");
  if (X509_check_private_key(cert.get(), key.get()) != 1)
    return InvalidArgument("tls.key: " + files.key + " is not the key of " + files.cert);
  return Status::Ok();
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const GrpcTls& files,
                                                               const std::string& address) {
  if (IsUnix(address) || !files.serves()) return grpc::InsecureServerCredentials();
  tls::TlsServerCredentialsOptions options(Watch(files));
  options.watch_identity_key_cert_pairs();
  if (!files.ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const GrpcTls& files,
                                                                 const std::string& address) {
  if (IsUnix(address) || !files.calls()) return grpc::InsecureChannelCredentials();
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(files));
  options.watch_root_certs();
  if (!files.cert.empty()) options.watch_identity_key_cert_pairs();
  return tls::TlsCredentials(options);
}

}  // namespace cyllm

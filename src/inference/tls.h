// TLS and mutual TLS of our gRPC connections, over TCP; Unix sockets go without. Files are PEM and read again
// when they change, within half a minute: new connections use what is new.
//
// A server with `cert` and `key` speaks TLS only; with `ca` too, it takes only callers whose certificate that
// CA signed. A caller with `ca` speaks TLS and takes only servers that the CA signed for the name or address
// it dials; with `cert` and `key` it shows them.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "base/status.h"

namespace cyllm {

struct GrpcTls {
  std::string cert, key, ca;  // paths; empty: none

  bool serves() const { return !cert.empty(); }
  bool calls() const { return !ca.empty(); }
};

// INVALID_ARGUMENT with the file that is missing, no PEM, or not the key of its certificate.
Status CheckTls(const GrpcTls& files);

// `address`: of the listener, or dialled; "unix:..." is not encrypted.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const GrpcTls& files,
                                                               const std::string& address);
std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const GrpcTls& files,
                                                                 const std::string& address);

}  // namespace cyllm

#pragma once
// The table of who owns which path, and what is asked of each request before it is let in: a known Host, an allowed
// Origin where no token protects, a token. Bodies of strangers are never read. A listener of a face's own (Request::listener)
// has that face's paths only, so that its root and its errors are those of the system that it stands for.

#include "api/context.hpp"
#include "http/server.hpp"

namespace myelin::api {

/// Tags of listeners.
enum class Face : unsigned { all, nest, neuroapi };

class Api : public http::Handler {
 public:
  explicit Api(Context& context) : context_(context) {}
  bool handle_now(http::Request& request, http::Response& response) override;
  async::Task<std::optional<http::Response>> admit(http::Request& request) override;
  async::Task<http::Response> handle(http::Request request) override;

 private:
  std::optional<http::Response> check(http::Request& request) const;
  Context& context_;
};

}  // namespace myelin::api

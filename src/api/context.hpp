#pragma once
// What every route needs. Made once by `serve`; all of it outlives the requests.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "api/gate.hpp"
#include "async/pool.hpp"
#include "base/result.hpp"
#include "http/cors.hpp"
#include "http/message.hpp"
#include "http/server.hpp"
#include "http/static_files.hpp"
#include "live/stream.hpp"
#include "run/runs.hpp"
#include "session/jobs.hpp"
#include "session/manager.hpp"

namespace myelin::function {
class Functions;
class Drafts;
class Sweeps;
}  // namespace myelin::function

namespace myelin::api {

class OidcProvider;

struct Settings {
  bool auth = true;                 // false: everybody is the user `local`
  bool exec = true;                 // /exec and /v1 exec
  bool nonfinite_bare = false;      // NaN and infinities in JSON: bare tokens instead of null
  std::size_t json_depth = 64;
  std::vector<std::string> hosts;   // known Host names beside loopback, without port
  std::vector<std::string> proxies; // numeric addresses that may say for whom they speak
  std::string public_url;           // without the last slash; may be empty
  bool any_host = false;            // bound to all addresses: numeric hosts are known
  bool public_functions = true;     // /api/v1/function answers without a token
  bool neuroapi_compact = false;    // NeuroAPI's texts as it writes them in production
  std::string isolation;            // full, no cgroup, reduced: as the banner says
  std::chrono::milliseconds interrupt_grace{2'000};
};

struct Context {
  Settings settings;
  async::Loop& loop;
  async::Pool& pool;
  accounts::Accounts* accounts = nullptr;  // null when auth is off
  OidcProvider* oidc = nullptr;            // null when no OpenID provider is configured
  session::Manager& sessions;
  live::Streams& streams;
  run::Runs& runs;
  session::Jobs& jobs;
  function::Functions& functions;
  function::Drafts& drafts;
  function::Sweeps& sweeps;
  http::OriginPatterns origins;
  std::optional<http::StaticFiles> app;      // the built page (web/dist), if it is there
  const http::Server* http = nullptr;        // for its metrics
  std::optional<http::StaticFiles> desktop;  // the files of nest-desktop, if installed
  std::string desktop_index;                 // its index.html, pointed at this server
  Gate public_calls;
  std::shared_ptr<std::uint64_t> public_bytes = std::make_shared<std::uint64_t>(0);  // of the answers to them that are on their way
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
};

}  // namespace myelin::api

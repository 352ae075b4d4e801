#pragma once
// The table of native routes: one row has the way in, and what openapi.json says of it. Rows of one resource are in that
// resource's file.

#include <string>
#include <string_view>
#include <vector>

#include "api/context.hpp"
#include "http/message.hpp"
#include "session/manager.hpp"

namespace myelin::api::v1 {

using async::Task;

/// A request that met a row: who asks, and what stood at the row's {places}, decoded. The last place of a pattern that ends with
/// `{path}` takes the rest of the path, slashes included.
struct Asked {
  session::User user;          // on whose behalf: the owner of what was granted to the one who asks
  accounts::Identity who;      // who asks
  http::Request request;
  std::vector<std::string> places;
};

using Handler = Task<http::Response> (*)(Context& context, Asked asked);

struct Route {
  std::string_view method, pattern;
  Handler handler;
  /// What it takes: "open" (nothing), "public" (nothing, unless functions.public is off), "signed_in", "self" (signed in, even if the
  /// password must be changed first), or a grant,
  /// "use:session:{}", where {} is the first place and * what is one's own (of kinds that nobody owns: an admin's).
  std::string_view needs;
  std::string_view tag, summary;
  std::string_view query = "";   // names with commas
  std::string_view body = "";    // an example; text that is no JSON is a media type
  std::string_view required = "";  // members of the body, with commas
  int status = 200;
  std::string_view answer = "";  // an example; text that is no JSON is a media type
};

std::vector<Route> server_routes();
std::vector<Route> session_routes();
std::vector<Route> branch_routes();
std::vector<Route> stream_routes();
std::vector<Route> function_routes();
std::vector<Route> package_routes();
std::vector<Route> sweep_routes();
std::vector<Route> job_routes();
std::vector<Route> run_routes();
std::vector<Route> file_routes();
std::vector<Route> token_routes();
std::vector<Route> auth_routes();
std::vector<Route> user_routes();
std::vector<Route> group_routes();

/// 401, for who has not signed in.
[[nodiscard]] http::Response sign_in_first();

/// All of them.
[[nodiscard]] const std::vector<Route>& routes();

}  // namespace myelin::api::v1

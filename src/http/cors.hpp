#pragma once
// Which web origins may call. A pattern is `*` (all), `^…$` (an ECMAScript regular expression over the whole
// origin), or an origin like `https://*.lab.org:8443`, anchored at both ends, where `*` in the host is one
// label, a port of `*` any port or none, and no port means the scheme's own. Hosts and schemes compare
// without case.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::http {

class OriginPatterns {
 public:
  /// A comma-separated list. bad_request names the pattern that can't be understood.
  [[nodiscard]] static Result<OriginPatterns> parse(std::string_view list);
  [[nodiscard]] bool match(std::string_view origin) const;
  [[nodiscard]] bool all() const { return all_; }  // contains a lone `*`

 private:
  struct Pattern;
  bool all_ = false;
  std::vector<std::shared_ptr<const Pattern>> patterns_;
};

inline constexpr std::string_view default_origins = "http://localhost:*,http://127.0.0.1:*";

}  // namespace myelin::http

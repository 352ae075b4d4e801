#include "cli/config.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <variant>

#include "base/ids.hpp"

extern char** environ;  // NOLINT

namespace myelin::cli {

namespace fs = std::filesystem;

namespace {

constexpr uid_t default_worker_uid = 61525;

// ---- values as they were given
// -------------------------------------------------------------------------------------

using Raw = std::variant<std::string, std::int64_t, double, bool, std::vector<std::string>>;

struct Given {
  Raw raw;
  bool is_text = false;  // from a flag or a variable: all types are written as text
  fs::path base;         // where relative paths start
  fs::path home;
};

std::string shown(const Given& given) {
  std::ostringstream out;
  std::visit(
      [&](const auto& v) {
        using V = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<V, std::string>)
          out << '"' << v << '"';
        else if constexpr (std::is_same_v<V, bool>)
          out << (v ? "true" : "false");
        else if constexpr (std::is_same_v<V, std::vector<std::string>>)
          out << "a list";
        else
          out << v;
      },
      given.raw);
  return out.str();
}

std::string trimmed(std::string_view text) {
  auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  auto last = text.find_last_not_of(" \t\r\n");
  return std::string(text.substr(first, last - first + 1));
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    auto end = text.find(separator);
    auto part = trimmed(text.substr(0, end));
    if (!part.empty()) parts.push_back(part);
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A setter returns "" or what the value must be ("a number from 0 to 65535").
using Setter = std::function<std::string(Config&, const Given&)>;

std::string set_number(std::uint64_t& to, const Given& given, std::uint64_t low, std::uint64_t high) {
  std::optional<std::uint64_t> value;
  if (auto* n = std::get_if<std::int64_t>(&given.raw); n != nullptr && *n >= 0)
    value = static_cast<std::uint64_t>(*n);
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text)
    value = whole_number(trimmed(*s));
  if (!value || *value < low || *value > high) {
    return "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  }
  to = *value;
  return {};
}

std::string set_text(std::string& to, const Given& given) {
  auto* text = std::get_if<std::string>(&given.raw);
  if (text == nullptr) return "a text";
  to = *text;
  return {};
}

std::string set_bool(bool& to, const Given& given) {
  if (auto* b = std::get_if<bool>(&given.raw)) {
    to = *b;
    return {};
  }
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text) {
    auto text = lower(trimmed(*s));
    if (text == "true" || text == "yes" || text == "t" || text == "1" || text == "on") return to = true, "";
    if (text == "false" || text == "no" || text == "f" || text == "0" || text == "off") return to = false, "";
  }
  return "true or false";
}

std::string set_list(std::vector<std::string>& to, const Given& given) {
  if (auto* list = std::get_if<std::vector<std::string>>(&given.raw)) {
    to = *list;
    return {};
  }
  if (auto* s = std::get_if<std::string>(&given.raw); s != nullptr && given.is_text) {
    to = split(*s, ',');
    return {};
  }
  return "a list of texts";
}

fs::path resolved(const std::string& text, const Given& given) {
  fs::path path = text;
  if (text == "~" || text.rfind("~/", 0) == 0)
    path = given.home / text.substr(std::min<std::size_t>(2, text.size()));
  if (path.is_relative()) path = given.base / path;
  return path.lexically_normal();
}

std::string set_path(fs::path& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty() || text.empty()) return "a path";
  to = resolved(text, given);
  return {};
}

std::string set_amount(Amount& to, const Given& given, bool share_allowed) {
  const std::string must_be = share_allowed ? "a size like \"8GiB\" or a share like \"60%\""
                                            : "a size like \"2GiB\", or a number of bytes";
  if (auto* n = std::get_if<std::int64_t>(&given.raw)) {
    if (*n < 0) return must_be;
    to = {static_cast<std::uint64_t>(*n), 0};
    return {};
  }
  auto* text = std::get_if<std::string>(&given.raw);
  if (text == nullptr) return must_be;
  auto amount = parse_amount(trimmed(*text));
  if (!amount || (amount->percent != 0 && !share_allowed)) return must_be;
  to = *amount;
  return {};
}

template <class E>
std::string set_choice(E& to, const Given& given, std::initializer_list<std::pair<const char*, E>> choices) {
  std::string text;
  (void)set_text(text, given);
  std::string must_be;
  for (const auto& [name, value] : choices) {
    if (text == name) return to = value, "";
    must_be.append(must_be.empty() ? "\"" : " or \"").append(name).append("\"");
  }
  return must_be;
}

/// A program: a name stays a name (to be found in PATH), anything with a slash is a path.
std::string set_program(std::string& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty() || text.empty()) return "a path, or a program's name";
  to = text.find('/') == std::string::npos ? text : resolved(text, given).string();
  return {};
}

std::string set_token(std::string& to, const Given& given) {
  std::string text;
  if (!set_text(text, given).empty()) return "a text";
  if (text.empty() || text.size() > 512 ||
      !std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return "1 to 512 printable ASCII characters without spaces (it travels in a header)";
  }
  to = text;
  return {};
}

// ---- the settings
// ---------------------------------------------------------------------------------------------------

struct Setting {
  const char* key;
  const char* help;  // nullptr: no flag and no variable, a file's matter
  Setter set;
  bool is_secret = false;
  bool is_switch = false;
  bool in_file = true;
};

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"host", "address to listen at (127.0.0.1)",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         if (text.empty() || text.find_first_of(" /\t\n@?#") != std::string::npos)
           return "a host name or IP address";
         if (text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
         c.host = text;
         return {};
       }},
      {"port", "port to listen at; 0 picks a free one (52425)",
       [](Config& c, const Given& g) {
         std::uint64_t port = c.port;
         auto bad = set_number(port, g, 0, 65535);
         c.port = static_cast<std::uint16_t>(port);
         return bad;
       }},
      {"data", "folder of all data, DIR (~/.local/share/myelin; root: /var/lib/myelin)",
       [](Config& c, const Given& g) { return set_path(c.data, g); }},
      {"token", "the operator's token; better by MYELIN_TOKEN or --token-file, which do not show in ps",
       [](Config& c, const Given& g) {
         std::string text;
         auto bad = set_token(text, g);
         if (bad.empty()) c.token = text, c.token_file.reset();
         return bad;
       },
       true},
      {"token_file", "file that holds the operator's token (DIR/token, made once)",
       [](Config& c, const Given& g) {
         fs::path path;
         auto bad = set_path(path, g);
         if (bad.empty()) c.token_file = path, c.token.reset();
         return bad;
       }},
      {"auth", "token, or none (on a loopback address only)",
       [](Config& c, const Given& g) {
         return set_choice(c.auth, g, {{"token", Auth::token}, {"none", Auth::none}});
       }},
      {"socket", "true or false: listen on the Unix socket DIR/socket too, for the operator without a token (true)",
       [](Config& c, const Given& g) { return set_bool(c.socket, g); }},
      {"isolation", "full, or reduced: serve several users without namespaces too",
       [](Config& c, const Given& g) {
         return set_choice(c.isolation, g, {{"full", Isolation::full}, {"reduced", Isolation::reduced}});
       }},
      {"exec", "true or false: whether scripts are run (true; false where sessions are not isolated)",
       [](Config& c, const Given& g) {
         bool on = true;
         auto bad = set_bool(on, g);
         if (bad.empty()) c.exec = on;
         return bad;
       }},
      {"cors_origins", "origins whose pages may call, separated by commas",
       [](Config& c, const Given& g) { return set_list(c.cors_origins, g); }},
      {"allowed_hosts", "further names this server is called by, separated by commas",
       [](Config& c, const Given& g) { return set_list(c.allowed_hosts, g); }},
      {"public_url", "the address users see, where a proxy stands in front",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         while (!text.empty() && text.back() == '/') text.pop_back();
         if (text.rfind("http://", 0) != 0 && text.rfind("https://", 0) != 0)
           return "an http:// or https:// address";
         c.public_url = text;
         return {};
       }},
      {"nonfinite", "NaN and infinities in JSON: null, or bare",
       [](Config& c, const Given& g) {
         return set_choice(c.nonfinite, g, {{"null", Nonfinite::null}, {"bare", Nonfinite::bare}});
       }},
      {"modules", "what scripts find imported: \"nest,numpy\" or \"import nest; import numpy as np\"",
       [](Config& c, const Given& g) -> std::string {
         if (auto* list = std::get_if<std::vector<std::string>>(&g.raw)) {
           c.modules.clear();
           for (const auto& name : *list) c.modules.append(c.modules.empty() ? "" : ",").append(name);
           return {};
         }
         return set_text(c.modules, g).empty() ? "" : "a text or a list of texts";
       }},
      {"worker_uid", "user id of all sessions of root's server (user myelin, else 61525)",
       [](Config& c, const Given& g) {
         std::uint64_t uid = 0;
         auto bad = set_number(uid, g, 1, 4294967293U);
         if (bad.empty()) c.worker_uid = static_cast<uid_t>(uid);
         return bad;
       }},
      {"python", "the engines' Python", [](Config& c, const Given& g) { return set_program(c.python, g); }},
      {"web", "folder of the page at /app/ (web/dist beside the program's)",
       [](Config& c, const Given& g) { return set_path(c.web, g); }},
      {"desktop", "folder of NEST Desktop's pages (found in the engines' environment)",
       [](Config& c, const Given& g) { return set_path(c.desktop, g); }},
      {"sandbox_binary", "path of myelin-sandbox (beside this program)",
       [](Config& c, const Given& g) { return set_path(c.sandbox_binary, g); }},
      {"enter_library", "path of libmyelin_enter.so (beside this program)",
       [](Config& c, const Given& g) { return set_path(c.enter_library, g); }},
      {"nest_face", "started by myelin nest-server",
       [](Config& c, const Given& g) { return set_bool(c.nest_face, g); }, false, true, false},
  };
  return all;
}

struct LimitSpec {
  const char* key;
  std::uint64_t Limits::*number;
  Amount Limits::*amount;
  std::uint64_t low, high;
  bool share, engine, user;
};

const std::vector<LimitSpec>& limit_specs() {
  static const std::vector<LimitSpec> all = {
      {"body_mib", &Limits::body_mib, nullptr, 1, 65536, false, false, false},
      {"header_kib", &Limits::header_kib, nullptr, 1, 1024, false, false, false},
      {"json_depth", &Limits::json_depth, nullptr, 1, 10000, false, false, false},
      {"connections", &Limits::connections, nullptr, 16, 1000000, false, false, false},
      {"memory_all", nullptr, &Limits::memory_all, 0, 0, true, false, false},
      {"call_deadline_s", &Limits::call_deadline_s, nullptr, 0, 31536000, false, true, true},
      {"idle_s", &Limits::idle_s, nullptr, 0, 31536000, false, true, true},
      {"memory_per_session", nullptr, &Limits::memory_per_session, 0, 0, true, true, true},
      {"pids", &Limits::pids, nullptr, 1, 4194304, false, true, true},
      {"files", &Limits::files, nullptr, 16, 1048576, false, true, true},
      {"scratch", nullptr, &Limits::scratch, 0, 0, false, true, true},
      {"queue", &Limits::queue, nullptr, 1, 100000, false, true, true},
      {"stdout_mib", &Limits::stdout_mib, nullptr, 1, 65536, false, true, true},
      {"cpu_weight", &Limits::cpu_weight, nullptr, 1, 10000, false, true, true},
      {"work_quota", nullptr, &Limits::work_quota, 0, 0, false, false, true},
      {"run_quota", nullptr, &Limits::run_quota, 0, 0, false, false, false},
      {"checkpoints", nullptr, &Limits::checkpoints, 0, 0, true, false, true},
      {"max_sessions_per_user", &Limits::max_sessions_per_user, nullptr, 1, 100000, false, false, true},
  };
  return all;
}

std::string set_limit(LimitOverrides& to, const LimitSpec& spec, const Given& given) {
  if (spec.number != nullptr) {
    std::uint64_t value = 0;
    auto bad = set_number(value, given, spec.low, spec.high);
    if (bad.empty()) to.numbers.emplace_back(spec.number, value);
    return bad;
  }
  Amount amount;
  auto bad = set_amount(amount, given, spec.share);
  if (bad.empty()) to.amounts.emplace_back(spec.amount, amount);
  return bad;
}

// ---- mistakes
// -------------------------------------------------------------------------------------------------------

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = up;
    }
  }
  return row[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : known) {
    auto d = distance(lower(word), candidate);
    if (d < best_distance) best = candidate, best_distance = d;
  }
  return best;
}

// ---- the file
// -------------------------------------------------------------------------------------------------------

class FileReader {
 public:
  FileReader(fs::path file, fs::path home, Config& config)
      : file_(std::move(file)), home_(std::move(home)), config_(config) {}

  /// The data folder is taken from it if `data_allowed`: a file that was found in DIR cannot move DIR.
  Result<void> read(const std::string& text, bool data_allowed) {
    toml::table root;
    try {
      root = toml::parse(text, std::string_view(file_.native()));
    } catch (const toml::parse_error& error) {
      mistake(error.source().begin.line, std::string(error.description()));
      return result();
    }
    std::vector<std::string> known = {"limits", "engine", "user", "mount"};
    for (const auto& setting : settings()) {
      if (setting.in_file) known.emplace_back(setting.key);
    }
    for (auto&& [key, node] : root) {
      std::string_view name = key.str();
      auto line = key.source().begin.line;
      if (name == "limits") {
        if (auto* table = table_of(node, "limits", line)) limits(*table, "limits.", file_limits_, nullptr);
      } else if (name == "engine") {
        if (auto* table = table_of(node, "engine", line)) engines(*table);
      } else if (name == "user") {
        if (auto* table = table_of(node, "user", line)) users(*table);
      } else if (name == "mount") {
        mounts(node, line);
      } else if (auto* setting = find(name)) {
        top_level(*setting, node, line, data_allowed);
      } else {
        unknown(line, "", name, known);
      }
    }
    if (root.contains("token") && root.contains("token_file")) {
      mistake(root.get("token_file")->source().begin.line, "token and token_file cannot both be set");
    }
    file_limits_.apply(config_.limits);
    return result();
  }

 private:
  static const Setting* find(std::string_view name) {
    for (const auto& setting : settings()) {
      if (setting.in_file && name == setting.key) return &setting;
    }
    return nullptr;
  }

  void top_level(const Setting& setting, const toml::node& node, toml::source_index line, bool data_allowed) {
    auto value = given(node);
    std::string must_be = value ? setting.set(config_, *value) : "a simple value";
    if (!value && node.is_array()) must_be = "a list of texts";
    if (!must_be.empty()) {
      mistake(line, std::string(setting.key) + " must be " + must_be +
                        (value && !setting.is_secret ? ", not " + shown(*value) : ""));
    } else if (std::string_view(setting.key) == "data" && !data_allowed) {
      mistake(line, "data cannot be set in the data folder's own file; use --data, MYELIN_DATA or --config");
    }
  }

  void limits(const toml::table& table, const std::string& prefix, LimitOverrides& to,
              bool LimitSpec::*allowed) {
    std::vector<std::string> known;
    for (const auto& spec : limit_specs()) {
      if (allowed == nullptr || spec.*allowed) known.emplace_back(spec.key);
    }
    for (auto&& [key, node] : table) {
      std::string_view name = key.str();
      auto line = key.source().begin.line;
      auto spec = std::find_if(limit_specs().begin(), limit_specs().end(),
                               [&](const auto& s) { return name == s.key; });
      if (spec == limit_specs().end()) {
        unknown(line, prefix, name, known);
      } else if (allowed != nullptr && !((*spec).*allowed)) {
        mistake(line, prefix + spec->key + " holds for the whole server or per user; set it " +
                          (spec->user ? "in [limits] or [user.NAME.limits]" : "in [limits]"));
      } else {
        auto value = given(node);
        std::string must_be = value ? set_limit(to, *spec, *value) : "a simple value";
        if (!must_be.empty()) {
          mistake(line, prefix + spec->key + " must be " + must_be + (value ? ", not " + shown(*value) : ""));
        }
      }
    }
  }

  void engines(const toml::table& table) {
    for (auto&& [key, node] : table) {
      std::string name(key.str());
      auto line = key.source().begin.line;
      const auto& all = engine_names();
      if (std::find(all.begin(), all.end(), name) == all.end()) {
        unknown(line, "engine.", name, all);
        continue;
      }
      std::string prefix = "engine." + name;
      auto* engine = table_of(node, prefix, line);
      if (engine == nullptr) continue;
      prefix += '.';
      EngineConfig& to = config_.engines[name];
      for (auto&& [inner_key, inner] : *engine) {
        std::string_view inner_name = inner_key.str();
        auto inner_line = inner_key.source().begin.line;
        if (inner_name == "python") {
          set(inner, inner_line, prefix + "python",
              [&](const Given& g) { return set_program(to.python, g); });
        } else if (inner_name == "preload") {
          set(inner, inner_line, prefix + "preload", [&](const Given& g) { return set_list(to.preload, g); });
        } else if (inner_name == "limits") {
          if (auto* t = table_of(inner, prefix + "limits", inner_line)) {
            limits(*t, prefix + "limits.", to.limits, &LimitSpec::engine);
          }
        } else if (inner_name == "env") {
          if (auto* t = table_of(inner, prefix + "env", inner_line)) {
            for (auto&& [variable, value] : *t) {
              std::string variable_name(variable.str());
              set(value, variable.source().begin.line, prefix + "env." + variable_name,
                  [&](const Given& g) { return set_text(to.env[variable_name], g); });
            }
          }
        } else {
          unknown(inner_line, prefix, inner_name, {"python", "preload", "limits", "env"});
        }
      }
    }
  }

  void users(const toml::table& table) {
    for (auto&& [key, node] : table) {
      std::string name(key.str());
      auto* user = table_of(node, "user." + name, key.source().begin.line);
      if (user == nullptr) continue;
      LimitOverrides& to = config_.users[name];
      std::string prefix = "user." + name + ".";
      for (auto&& [inner_key, inner] : *user) {
        if (inner_key.str() == "limits") {
          if (auto* t = table_of(inner, prefix + "limits", inner_key.source().begin.line)) {
            limits(*t, prefix + "limits.", to, &LimitSpec::user);
          }
        } else {
          unknown(inner_key.source().begin.line, prefix, inner_key.str(), {"limits"});
        }
      }
    }
  }

  void mounts(const toml::node& node, toml::source_index line) {
    const auto* list = node.as_array();
    if (list == nullptr || !list->is_array_of_tables()) {
      if (list == nullptr || !list->empty()) mistake(line, "mount must be written as [[mount]]");
      return;
    }
    for (const auto& item : *list) {
      const auto& table = *item.as_table();
      auto start = table.source().begin.line;
      Mount mount;
      for (auto&& [key, value] : table) {
        std::string_view name = key.str();
        auto at = key.source().begin.line;
        if (name == "path")
          set(value, at, "mount.path", [&](const Given& g) { return set_path(mount.path, g); });
        else if (name == "target")
          set(value, at, "mount.target", [&](const Given& g) { return target(mount.target, g); });
        else if (name == "mode")
          set(value, at, "mount.mode", [&](const Given& g) {
            return set_choice(mount.writable, g, {{"ro", false}, {"rw", true}});
          });
        else if (name == "engines")
          set(value, at, "mount.engines", [&](const Given& g) -> std::string {
            auto bad = set_list(mount.engines, g);
            const auto& all = engine_names();
            for (const auto& engine : mount.engines) {
              if (std::find(all.begin(), all.end(), engine) == all.end()) {
                return "a list of engines (nest, neuron, jaxley, python); there is none called \"" + engine +
                       "\"";
              }
            }
            return bad;
          });
        else if (name == "users")
          set(value, at, "mount.users", [&](const Given& g) { return set_list(mount.users, g); });
        else
          unknown(at, "mount.", name, {"path", "target", "mode", "engines", "users"});
      }
      if (!table.contains("path")) {
        mistake(start, "a mount needs a path");
        continue;
      }
      if (mount.target.empty() && !mount.path.empty()) {
        Given path{mount.path.string(), false, {}, home_};
        if (!target(mount.target, path).empty()) {
          mistake(start,
                  "mount.path " + mount.path.string() + " is a system folder of the session; give a target");
        }
      }
      config_.mounts.push_back(std::move(mount));
    }
  }

  static std::string target(fs::path& to, const Given& given) {
    std::string text;
    (void)set_text(text, given);
    fs::path path = fs::path(text).lexically_normal();
    if (path.has_relative_path() && path.filename().empty()) path = path.parent_path();
    static const std::set<std::string> systems = {"proc", "sys", "dev", "tmp", "run"};
    if (!path.is_absolute() || path == "/" || systems.count((++path.begin())->string()) != 0) {
      return "an absolute path, not / and not in /proc, /sys, /dev, /tmp or /run";
    }
    to = path;
    return {};
  }

  void set(const toml::node& node, toml::source_index line, const std::string& key,
           const std::function<std::string(const Given&)>& setter) {
    auto value = given(node);
    std::string must_be = value ? setter(*value) : (node.is_array() ? "a list of texts" : "a simple value");
    if (!must_be.empty())
      mistake(line, key + " must be " + must_be + (value ? ", not " + shown(*value) : ""));
  }

  std::optional<Given> given(const toml::node& node) const {
    Given out{std::string(), false, file_.parent_path(), home_};
    if (auto* s = node.as_string())
      out.raw = s->get();
    else if (auto* i = node.as_integer())
      out.raw = i->get();
    else if (auto* d = node.as_floating_point())
      out.raw = d->get();
    else if (auto* b = node.as_boolean())
      out.raw = b->get();
    else if (auto* a = node.as_array()) {
      std::vector<std::string> list;
      for (const auto& item : *a) {
        if (!item.is_string()) return std::nullopt;
        list.push_back(item.as_string()->get());
      }
      out.raw = std::move(list);
    } else {
      return std::nullopt;
    }
    return out;
  }

  const toml::table* table_of(const toml::node& node, const std::string& name, toml::source_index line) {
    if (node.is_table()) return node.as_table();
    mistake(line, name + " must be a table: [" + name + "]");
    return nullptr;
  }

  void unknown(toml::source_index line, const std::string& prefix, std::string_view name,
               const std::vector<std::string>& known) {
    std::string text = "unknown key \"" + prefix + std::string(name) + "\"";
    auto meant = nearest(name, known);
    if (!meant.empty()) {
      text += "; did you mean \"" + prefix + meant + "\"?";
    } else {
      text += "; known here:";
      for (const auto& key : known) text += " " + key;
    }
    mistake(line, text);
  }

  void mistake(toml::source_index line, std::string text) { mistakes_.emplace_back(line, std::move(text)); }

  Result<void> result() {
    if (mistakes_.empty()) return {};
    std::stable_sort(mistakes_.begin(), mistakes_.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::string text;
    for (const auto& [line, what] : mistakes_) {
      if (!text.empty()) text += '\n';
      text += file_.string() + ":" + std::to_string(line) + ": " + what;
    }
    return Error{Code::bad_request, text, ""};
  }

  fs::path file_;
  fs::path home_;
  Config& config_;
  LimitOverrides file_limits_;
  std::vector<std::pair<toml::source_index, std::string>> mistakes_;
};

/// The text of a file; nullopt if there is none.
Result<std::optional<std::string>> read_file(const fs::path& path, std::size_t limit_bytes) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::optional<std::string>();
    return Error{Code::bad_request, path.string() + " cannot be read: " + std::strerror(errno), ""};
  }
  std::string text;
  char buffer[65536];
  ssize_t size = 0;
  while ((size = ::read(fd, buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR)) {
    if (size > 0) text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > limit_bytes) break;
  }
  int error = size < 0 ? errno : 0;
  ::close(fd);
  if (error != 0)
    return Error{Code::bad_request, path.string() + " cannot be read: " + std::strerror(error), ""};
  if (text.size() > limit_bytes) return Error{Code::bad_request, path.string() + " is too large", ""};
  return std::optional<std::string>(std::move(text));
}

bool others_can_read(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & 0077) != 0;
}

// ---- the environment
// ------------------------------------------------------------------------------------------------

std::optional<std::string> variable(const Environment& environment, const std::string& name) {
  auto found = environment.find(name);
  if (found == environment.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

/// NEST Server's variables. Fills `config`; what is wrong is appended to `mistakes`.
void apply_nest_environment(const Surroundings& around, Config& config, std::vector<std::string>& mistakes) {
  const auto& env = around.environment;
  auto apply = [&](const char* name, const char* key) {
    auto value = variable(env, name);
    if (!value) return;
    for (const auto& setting : settings()) {
      if (std::string_view(setting.key) != key) continue;
      auto must_be = setting.set(config, Given{*value, true, fs::current_path(), around.home});
      if (!must_be.empty()) {
        mistakes.push_back(std::string(name) + " must be " + must_be +
                           (setting.is_secret ? "" : ", not \"" + *value + "\""));
      }
    }
  };
  apply("NEST_SERVER_HOST", "host");
  apply("NEST_SERVER_PORT", "port");
  apply("NEST_SERVER_ACCESS_TOKEN", "token");
  apply("NEST_SERVER_CORS_ORIGINS", "cors_origins");
  apply("NEST_SERVER_MODULES", "modules");
  if (auto off = variable(env, "NEST_SERVER_DISABLE_AUTH"); off && nest_boolean(*off))
    config.auth = Auth::none;
  if (auto on = variable(env, "NEST_SERVER_ENABLE_EXEC_CALL")) config.exec = nest_boolean(*on);

  static const std::set<std::string> used = {"NEST_SERVER_HOST",
                                             "NEST_SERVER_PORT",
                                             "NEST_SERVER_ACCESS_TOKEN",
                                             "NEST_SERVER_CORS_ORIGINS",
                                             "NEST_SERVER_MODULES",
                                             "NEST_SERVER_DISABLE_AUTH",
                                             "NEST_SERVER_ENABLE_EXEC_CALL"};
  static const std::map<std::string, std::string> idle = {
      {"NEST_SERVER_DISABLE_RESTRICTION", "scripts are ordinary Python, the sandbox is the process"},
      {"NEST_SERVER_RESTRICTION_OFF", "scripts are ordinary Python, the sandbox is the process"},
      {"NEST_SERVER_WORKERS", "every token has a kernel of its own"},
      {"NEST_SERVER_MPI_LOGGER_LEVEL", "there is no MPI face"},
      {"NEST_SERVER_TIMEOUT", "only `myelin nest-server` uses it; the setting is limits.call_deadline_s"},
      {"NEST_SERVER_STDOUT", "only `myelin nest-server` uses it"},
      {"NEST_SERVER_LOGFILE", "only `myelin nest-server` uses it"},
      {"NEST_SERVER_DAEMON", "only `myelin nest-server` uses it"},
  };
  for (const auto& [name, value] : env) {
    if (name.rfind("NEST_SERVER_", 0) != 0 || value.empty() || used.count(name) != 0) continue;
    auto why = idle.find(name);
    config.notes.push_back(why != idle.end() ? name + " is accepted and does nothing here: " + why->second
                                             : name + " is not known and does nothing");
  }
}

void apply_environment(const Surroundings& around, Config& config, std::vector<std::string>& mistakes) {
  apply_nest_environment(around, config, mistakes);
  auto given = [&](const std::string& value) { return Given{value, true, fs::current_path(), around.home}; };
  for (const auto& setting : settings()) {
    if (!setting.in_file) continue;
    std::string name = "MYELIN_";
    name += upper(setting.key);
    auto value = variable(around.environment, name);
    if (!value) continue;
    auto must_be = setting.set(config, given(*value));
    if (!must_be.empty()) {
      mistakes.push_back(name + " must be " + must_be +
                         (setting.is_secret ? "" : ", not \"" + *value + "\""));
    }
  }
  LimitOverrides limits;
  for (const auto& spec : limit_specs()) {
    std::string name = "MYELIN_";
    name += upper(spec.key);
    auto value = variable(around.environment, name);
    if (!value) continue;
    auto must_be = set_limit(limits, spec, given(*value));
    if (!must_be.empty()) mistakes.push_back(name + " must be " + must_be + ", not \"" + *value + "\"");
  }
  limits.apply(config.limits);
  if (variable(around.environment, "MYELIN_TOKEN") && variable(around.environment, "MYELIN_TOKEN_FILE")) {
    mistakes.emplace_back("MYELIN_TOKEN and MYELIN_TOKEN_FILE cannot both be set");
  }
}

std::string dashed(std::string text) {
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

void apply_flags(const Flags& flags, const Surroundings& around, Config& config,
                 std::vector<std::string>& mistakes) {
  for (const auto& [key, value] : flags) {
    if (key == "config") continue;
    auto setting =
        std::find_if(settings().begin(), settings().end(), [&](const auto& s) { return key == s.key; });
    if (setting == settings().end()) throw std::logic_error("no such flag: " + key);
    auto must_be = setting->set(config, Given{value, true, fs::current_path(), around.home});
    if (!must_be.empty()) {
      mistakes.push_back("--" + dashed(key) + " must be " + must_be +
                         (setting->is_secret ? "" : ", not \"" + value + "\""));
    }
  }
  if (flags.count("token") != 0 && flags.count("token_file") != 0) {
    mistakes.emplace_back("--token and --token-file cannot both be given");
  }
}

// ---- defaults that depend on the machine
// ----------------------------------------------------------------------------

void fill_in(Config& config, const Surroundings& around) {
  fs::path beside = around.executable.parent_path();
  std::error_code ignored;
  if (config.python.empty()) {
    config.python = "python3";
    for (const auto& environment : {beside.parent_path() / ".venv", beside / ".venv"}) {
      if (fs::exists(environment / "bin" / "python", ignored)) {
        config.python = (environment / "bin" / "python").string();
        break;
      }
    }
  }
  if (config.sandbox_binary.empty()) config.sandbox_binary = beside / "myelin-sandbox";
  if (config.enter_library.empty()) config.enter_library = beside / "libmyelin_enter.so";
  if (config.web.empty()) {
    config.web = beside.parent_path() / "web" / "dist";
    if (fs::path installed = beside.parent_path() / "share" / "myelin" / "web"; fs::exists(installed, ignored))
      config.web = installed;
  }
  const auto& nest_python = config.python_for("nest");
  if (config.desktop.empty() && nest_python.find('/') != std::string::npos) {
    fs::path lib = fs::path(nest_python).parent_path().parent_path() / "lib";
    for (const auto& entry : fs::directory_iterator(lib, ignored)) {
      fs::path pages = entry.path() / "site-packages" / "nest_desktop" / "app";
      if (entry.path().filename().string().rfind("python3", 0) == 0 &&
          fs::exists(pages / "index.html", ignored)) {
        config.desktop = pages;
        break;
      }
    }
  }
  if (around.is_root) {
    if (!config.worker_uid) {
      const passwd* user = ::getpwnam("myelin");
      config.worker_uid = user != nullptr && user->pw_uid != 0 ? user->pw_uid : default_worker_uid;
    }
  } else if (config.worker_uid) {
    config.worker_uid.reset();
    config.notes.emplace_back("worker_uid does nothing here: only a server of root can change users");
  }
}

}  // namespace

// ---- public
// ---------------------------------------------------------------------------------------------------------

std::uint64_t Amount::of(std::uint64_t whole_bytes) const {
  if (percent == 0) return bytes;
  return static_cast<std::uint64_t>(static_cast<double>(whole_bytes) * percent / 100.0);
}

Result<Amount> parse_amount(std::string_view text) {
  Error wrong{Code::bad_request, "not a size: \"" + std::string(text) + "\"", ""};
  double value = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(value) || value < 0 || std::signbit(value)) return wrong;
  auto unit = trimmed(std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end)));
  if (unit == "%") {
    if (value <= 0 || value > 100) return wrong;
    return Amount{0, value};
  }
  static const std::map<std::string, double> units = {
      {"", 1},     {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
      {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  auto factor = units.find(unit);
  if (factor == units.end()) return wrong;
  double bytes = value * factor->second;
  if (bytes > 0x1p62 || (factor->second == 1 && bytes != std::floor(bytes))) return wrong;
  return Amount{static_cast<std::uint64_t>(bytes), 0};
}

void LimitOverrides::apply(Limits& limits) const {
  for (const auto& [member, value] : numbers) limits.*member = value;
  for (const auto& [member, value] : amounts) limits.*member = value;
}

const std::vector<std::string>& engine_names() {
  static const std::vector<std::string> names = {"nest", "neuron", "jaxley", "python"};
  return names;
}

Limits Config::limits_for(std::string_view engine, std::string_view user) const {
  Limits effective = limits;
  if (auto found = engines.find(std::string(engine)); found != engines.end())
    found->second.limits.apply(effective);
  if (auto found = users.find(std::string(user)); found != users.end()) found->second.apply(effective);
  return effective;
}

const std::string& Config::python_for(std::string_view engine) const {
  auto found = engines.find(std::string(engine));
  return found != engines.end() && !found->second.python.empty() ? found->second.python : python;
}

std::vector<FlagSpec> serve_flags() {
  std::vector<FlagSpec> flags = {
      {"config", "config", "settings file (DIR/myelin.toml, else /etc/myelin/myelin.toml)"}};
  for (const auto& setting : settings()) {
    if (setting.help != nullptr)
      flags.push_back({dashed(setting.key), setting.key, setting.help, setting.is_switch});
  }
  return flags;
}

Surroundings Surroundings::of_this_process() {
  Surroundings around;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    std::string_view text(*entry);
    auto equals = text.find('=');
    if (equals != std::string_view::npos) {
      around.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  if (auto home = variable(around.environment, "HOME")) {
    around.home = *home;
  } else if (const passwd* user = ::getpwuid(::geteuid()); user != nullptr && user->pw_dir != nullptr) {
    around.home = user->pw_dir;
  }
  around.is_root = ::geteuid() == 0;
  std::error_code ignored;
  around.executable = fs::read_symlink("/proc/self/exe", ignored);
  return around;
}

fs::path default_data(const Surroundings& around) {
  if (around.is_root) return "/var/lib/myelin";
  if (around.home.empty()) return {};
  return around.home / ".local/share/myelin";
}

bool nest_boolean(std::string_view text) {
  auto word = lower(trimmed(text));
  return word == "yes" || word == "true" || word == "t" || word == "1";
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "::1") return true;
  auto parts = split(host, '.');
  if (parts.size() != 4 || parts[0] != "127" || std::count(host.begin(), host.end(), '.') != 3) return false;
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    auto number = whole_number(part);
    return number && *number <= 255;
  });
}

Result<Config> load(const Flags& flags, const Surroundings& around) {
  Config config;
  for (const auto& name : engine_names()) config.engines[name];
  std::vector<std::string> mistakes;

  // Where the data are decides which file is read; the file's own `data` comes last.
  std::optional<std::string> config_path;
  if (auto flag = flags.find("config"); flag != flags.end())
    config_path = flag->second;
  else
    config_path = variable(around.environment, "MYELIN_CONFIG");
  std::optional<std::string> data_text;
  if (auto flag = flags.find("data"); flag != flags.end())
    data_text = flag->second;
  else
    data_text = variable(around.environment, "MYELIN_DATA");
  Given start{std::string(), true, fs::current_path(), around.home};
  config.data = data_text && !data_text->empty() ? resolved(*data_text, start) : default_data(around);

  std::optional<std::string> text;
  bool in_data = false;
  if (config_path) {
    config.file = resolved(*config_path, start);
    auto read = read_file(*config.file, 1 << 20);
    if (!read) return read.take_error();
    if (!*read) return Error{Code::bad_request, "there is no settings file " + config.file->string(), ""};
    text = std::move(*read);
  } else {
    for (const auto& candidate :
         {config.data.empty() ? fs::path() : config.data / "myelin.toml", around.system_file}) {
      if (candidate.empty()) continue;
      auto read = read_file(candidate, 1 << 20);
      if (!read) return read.take_error();
      if (!*read) continue;
      config.file = candidate;
      text = std::move(*read);
      in_data = candidate != around.system_file;
      break;
    }
  }
  if (text) {
    auto read = FileReader(*config.file, around.home, config).read(*text, !in_data);
    if (!read) mistakes.push_back(read.error().message);
    if (config.token && others_can_read(*config.file)) {
      config.warnings.push_back(config.file->string() +
                                " holds a token and can be read by others: chmod 600 it");
    }
  }
  apply_environment(around, config, mistakes);
  apply_flags(flags, around, config, mistakes);

  if (mistakes.empty() && config.data.empty()) {
    mistakes.emplace_back("there is no home folder to keep data in: give --data DIR or set MYELIN_DATA");
  }
  if (mistakes.empty() && config.auth == Auth::none && !is_loopback(config.host)) {
    mistakes.push_back("auth = \"none\" is for a loopback address only, and host is " + config.host +
                       ": use a token, or host 127.0.0.1");
  }
  if (!mistakes.empty()) {
    std::string all;
    for (const auto& mistake : mistakes) all.append(all.empty() ? "" : "\n").append(mistake);
    return Error{Code::bad_request, all, ""};
  }
  fill_in(config, around);
  return config;
}

Result<OperatorToken> operator_token(const Config& config) {
  if (config.auth == Auth::none) return OperatorToken{};
  if (config.token) return OperatorToken{*config.token, std::nullopt, ""};
  fs::path path = config.token_file.value_or(config.data / "token");
  auto existing = [&]() -> Result<std::optional<OperatorToken>> {
    auto text = read_file(path, 4096);
    if (!text) return text.take_error();
    if (!*text) return std::optional<OperatorToken>();
    std::string token;
    auto must_be = set_token(token, Given{trimmed(**text), true, {}, {}});
    if (!must_be.empty()) {
      return Error{Code::bad_request, "the token in " + path.string() + " must be " + must_be, ""};
    }
    OperatorToken out{token, path, ""};
    if (others_can_read(path)) out.warning = path.string() + " can be read by others: chmod 600 it";
    return std::optional<OperatorToken>(std::move(out));
  };
  auto found = existing();
  if (!found) return found.take_error();
  if (*found) return std::move(**found);
  if (config.token_file) return Error{Code::bad_request, "there is no token file " + path.string(), ""};

  auto failed = [&](const char* what) {
    return Error{Code::unavailable, std::string(what) + " " + path.string() + ": " + std::strerror(errno),
                 ""};
  };
  if (!fs::exists(config.data)) {
    std::error_code error;
    fs::create_directories(config.data.parent_path(), error);
    if (::mkdir(config.data.c_str(), 0700) != 0 && errno != EEXIST)
      return failed("cannot make the folder of");
  }
  // Written beside, then linked: the name never shows half a token, and only the first of several writers
  // gets it.
  std::string beside = (config.data / ".token-XXXXXX").string();
  int fd = ::mkostemp(beside.data(), O_CLOEXEC);  // 0600
  if (fd < 0) return failed("cannot write");
  std::string token = random_hex(24);
  std::string line = token + "\n";
  bool written =
      ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  int error = errno;
  ::close(fd);
  bool linked = written && ::link(beside.c_str(), path.c_str()) == 0;
  if (written && !linked) error = errno;
  ::unlink(beside.c_str());
  if (!linked && error != EEXIST) {
    errno = error;
    return failed("cannot write");
  }
  if (int folder = ::open(config.data.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  found = existing();
  if (!found) return found.take_error();
  if (!*found) return Error{Code::unavailable, path.string() + " vanished", ""};
  return std::move(**found);
}

}  // namespace myelin::cli

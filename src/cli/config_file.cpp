#include "cli/config_file.hpp"

#include <algorithm>
#include <set>

#include "cli/engine_files.hpp"

namespace myelin::cli::conf {
namespace {

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

EngineConfig own_engine() {
  EngineConfig engine;
  engine.added = true;
  engine.kind = "python";
  return engine;
}

}  // namespace

void FileReader::parse(const std::string& text) {
  try {
    root_ = toml::parse(text, std::string_view(file_.native()));
    parsed_ = true;
  } catch (const toml::parse_error& error) {
    mistake(error.source().begin.line, std::string(error.description()));
  }
}

void FileReader::take_data() {
  auto* node = root_.get("data");
  auto value = node != nullptr ? given(*node) : std::nullopt;
  if (value) (void)find("data")->set(config_, *value);  // what is wrong is said by read()
}

Result<void> FileReader::read(bool data_allowed) {
  if (!parsed_) return result();
  std::vector<std::string> known = {"limits", "engine", "user", "mount", "face", "functions", "oidc"};
  for (const auto& setting : settings()) {
    if (setting.in_file) known.emplace_back(setting.key);
  }
  for (auto&& [key, node] : root_) {
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
    } else if (name == "face") {
      if (auto* table = table_of(node, "face", line)) faces(*table);
    } else if (name == "functions") {
      if (auto* table = table_of(node, "functions", line)) functions(*table);
    } else if (name == "oidc") {
      if (auto* table = table_of(node, "oidc", line)) oidc(*table);
    } else if (auto* setting = find(name)) {
      top_level(*setting, node, line, data_allowed);
    } else {
      unknown(line, "", name, known);
    }
  }
  if (root_.contains("token") && root_.contains("token_file")) {
    mistake(root_.get("token_file")->source().begin.line, "token and token_file cannot both be set");
  }
  file_limits_.apply(config_.limits);
  return result();
}

const Setting* FileReader::find(std::string_view name) {
  for (const auto& setting : settings()) {
    if (setting.in_file && name == setting.key) return &setting;
  }
  return nullptr;
}

void FileReader::top_level(const Setting& setting, const toml::node& node, toml::source_index line, bool data_allowed) {
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

void FileReader::limits(const toml::table& table, const std::string& prefix, LimitOverrides& to,
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
      mistake(line, prefix + spec->key + (spec->user     ? " holds for the whole server or per user; set it in [limits] or [user.NAME.limits]"
                                          : spec->engine ? " holds for the whole server or per engine; set it in [limits] or [engine.NAME.limits]"
                                                         : " holds for the whole server; set it in [limits]"));
    } else {
      auto value = given(node);
      std::string must_be = value ? set_limit(to, *spec, *value) : "a simple value";
      if (!must_be.empty()) {
        mistake(line, prefix + spec->key + " must be " + must_be + (value ? ", not " + shown(*value) : ""));
      }
    }
  }
}

void FileReader::engines(const toml::table& table) {
  for (auto&& [key, node] : table) {
    std::string name(key.str());
    auto line = key.source().begin.line;
    if (config_.engines.count(name) == 0) {
      const auto* own = node.as_table();
      if (own == nullptr || !own->contains("python")) {
        std::vector<std::string> known;
        for (const auto& [engine_name, ignored] : config_.engines) known.push_back(engine_name);
        unknown(line, "engine.", name, known, " An engine of your own needs python = \"PATH\"");
        continue;
      }
      if (!is_engine_name(name)) {
        mistake(line, "engine." + name + ": the name of an engine is " + std::string(engine_name_rule));
        continue;
      }
      config_.engines[name] = own_engine();
    }
    if (auto* t = table_of(node, "engine." + name, line)) engine(*t, name, "engine." + name + ".");
  }
}

void FileReader::engine(const toml::table& table, const std::string& name, const std::string& prefix) {
  EngineConfig& to = config_.engines[name];
  for (auto&& [key, node] : table) {
    std::string_view inner = key.str();
    auto line = key.source().begin.line;
    if (inner == "python") {
      set(node, line, prefix + "python", [&](const Given& g) { return set_program(to.python, g); });
    } else if (inner == "kind") {
      set(node, line, prefix + "kind", [&](const Given& g) -> std::string {
        std::string kind;
        (void)set_text(kind, g);
        const auto& all = engine_names();
        if (!to.added) return kind == name ? "" : "\"" + name + "\": that engine came with the server";
        if (std::find(all.begin(), all.end(), kind) == all.end()) return R"("nest", "neuron", "jaxley" or "python")";
        to.kind = kind;
        return {};
      });
    } else if (inner == "preload") {
      set(node, line, prefix + "preload", [&](const Given& g) -> std::string {
        std::vector<std::string> modules;
        auto bad = set_list(modules, g);
        if (bad.empty() && !std::all_of(modules.begin(), modules.end(), is_module_name)) return "a list of modules, such as [\"numpy\"]";
        if (bad.empty()) to.preload = modules;
        return bad;
      });
    } else if (inner == "limits") {
      if (auto* t = table_of(node, prefix + "limits", line)) limits(*t, prefix + "limits.", to.limits, &LimitSpec::engine);
    } else if (inner == "env") {
      if (auto* t = table_of(node, prefix + "env", line)) {
        for (auto&& [variable, value] : *t) {
          std::string variable_name(variable.str());
          set(value, variable.source().begin.line, prefix + "env." + variable_name,
              [&](const Given& g) { return set_text(to.env[variable_name], g); });
        }
      }
    } else {
      unknown(line, prefix, inner, {"python", "kind", "preload", "limits", "env"});
    }
  }
}

Result<void> FileReader::read_engine(const std::string& name) {
  if (!parsed_) return result();
  config_.engines[name] = own_engine();
  engine(root_, name, "");
  if (mistakes_.empty() && config_.engines[name].python.empty()) mistake(1, "an engine needs python = \"PATH\"");
  return result();
}

void FileReader::users(const toml::table& table) {
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

void FileReader::faces(const toml::table& table) {
  for (auto&& [key, node] : table) {
    const std::string name(key.str());
    auto line = key.source().begin.line;
    if (name != "nest" && name != "neuroapi") {
      unknown(line, "face.", name, {"nest", "neuroapi"});
      continue;
    }
    auto* face = table_of(node, "face." + name, line);
    if (face == nullptr) continue;
    const std::string prefix = "face." + name + ".";
    for (auto&& [inner_key, inner] : *face) {
      auto at = inner_key.source().begin.line;
      if (inner_key.str() == "listen") {
        auto& to = name == "nest" ? config_.nest_listen : config_.neuroapi_listen;
        set(inner, at, prefix + "listen", [&](const Given& g) { return set_address(to, g); });
      } else if (inner_key.str() == "json" && name == "neuroapi") {
        set(inner, at, prefix + "json", [&](const Given& g) {
          return set_choice(config_.neuroapi_compact, g, {{"development", false}, {"production", true}});
        });
      } else {
        unknown(at, prefix, inner_key.str(), name == "neuroapi" ? std::vector<std::string>{"listen", "json"} : std::vector<std::string>{"listen"});
      }
    }
  }
}

void FileReader::functions(const toml::table& table) {
  auto& to = config_.functions;
  for (auto&& [key, node] : table) {
    std::string name(key.str());
    auto line = key.source().begin.line;
    auto number = [&](std::uint64_t& place, std::uint64_t low, std::uint64_t high) {
      set(node, line, "functions." + name, [&](const Given& g) { return set_number(place, g, low, high); });
    };
    if (name == "directory") set(node, line, "functions.directory", [&](const Given& g) { return set_path(to.directory, g); });
    else if (name == "cache") set(node, line, "functions.cache", [&](const Given& g) { return set_amount(to.cache, g, false); });
    else if (name == "deadline_s") number(to.deadline_s, 1, 31536000);
    else if (name == "calls") number(to.calls, 1, 10000);
    else if (name == "spares") number(to.spares, 0, 1000);
    else if (name == "sweep_points") number(to.sweep_points, 1, 1000000);
    else if (name == "public") set(node, line, "functions.public", [&](const Given& g) { return set_bool(to.allow_public, g); });
    else unknown(line, "functions.", name, {"directory", "cache", "deadline_s", "calls", "spares", "sweep_points", "public"});
  }
}

void FileReader::oidc(const toml::table& table) {
  auto& to = config_.oidc;
  auto not_empty = [](std::string& place) {
    return [&place](const Given& g) -> std::string { return set_text(place, g).empty() && !place.empty() ? "" : "a text, not empty"; };
  };
  for (auto&& [key, node] : table) {
    std::string name(key.str());
    auto take = [&, line = key.source().begin.line](const std::function<std::string(const Given&)>& setter) { set(node, line, "oidc." + name, setter); };
    if (name == "issuer") {
      take([&](const Given& g) -> std::string {
        (void)set_text(to.issuer, g);
        const bool fits = accounts::oidc::may_ask(to.issuer, to.issuer) && to.issuer.find_first_of("?#") == std::string::npos;
        return fits ? "" : "an https:// address (http:// on this machine only)";
      });
    } else if (name == "client_id") {
      take(not_empty(to.client_id));
    } else if (name == "client_secret") {
      auto value = given(node);  // never shown
      if (!value || !not_empty(to.client_secret)(*value).empty()) mistake(key.source().begin.line, "oidc.client_secret must be a text, not empty");
    } else if (name == "client_secret_file") {
      take([&](const Given& g) { return set_path(config_.oidc_secret_file.emplace(), g); });
    } else if (name == "name") {
      take(not_empty(to.name));
    } else if (name == "scopes") {
      take([&](const Given& g) -> std::string {
        auto bad = set_list(to.scopes, g);
        const bool openid = std::find(to.scopes.begin(), to.scopes.end(), "openid") != to.scopes.end();
        return bad.empty() && openid ? "" : "a list of texts, one of them \"openid\"";
      });
    } else if (name == "create_users") {
      take([&](const Given& g) { return set_bool(to.create_users, g); });
    } else if (name == "default_role") {
      take([&](const Given& g) { return set_choice<std::string>(to.default_role, g, {{"guest", "guest"}, {"member", "member"}}); });
    } else if (name == "username_claim") {
      take(not_empty(to.username_claim));
    } else if (name == "groups_claim") {
      take([&](const Given& g) { return set_text(to.groups_claim, g); });
    } else if (name == "email_domains") {
      take([&](const Given& g) { return set_list(to.email_domains, g); });
    } else {
      unknown(key.source().begin.line, "oidc.", name,
              {"issuer", "client_id", "client_secret", "client_secret_file", "name", "scopes", "create_users", "default_role", "username_claim", "groups_claim", "email_domains"});
    }
  }
  const auto line = table.source().begin.line;
  if (to.issuer.empty() && !table.contains("issuer")) mistake(line, "oidc needs an issuer");
  if (to.client_id.empty() && !table.contains("client_id")) mistake(line, "oidc needs a client_id");
  if (table.contains("client_secret") && config_.oidc_secret_file) mistake(line, "oidc.client_secret and oidc.client_secret_file cannot both be set");
}

void FileReader::mounts(const toml::node& node, toml::source_index line) {
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
          for (const auto& wanted : mount.engines) {
            if (config_.engines.count(wanted) != 0) continue;
            std::string known;
            for (const auto& [engine_name, ignored] : config_.engines) known += (known.empty() ? "" : ", ") + engine_name;
            return "a list of engines (" + known + "); there is none called \"" + wanted + "\"";
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

std::string FileReader::target(fs::path& to, const Given& given) {
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

void FileReader::set(const toml::node& node, toml::source_index line, const std::string& key,
         const std::function<std::string(const Given&)>& setter) {
  auto value = given(node);
  std::string must_be = value ? setter(*value) : (node.is_array() ? "a list of texts" : "a simple value");
  if (!must_be.empty())
    mistake(line, key + " must be " + must_be + (value ? ", not " + shown(*value) : ""));
}

std::optional<Given> FileReader::given(const toml::node& node) const {
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

const toml::table* FileReader::table_of(const toml::node& node, const std::string& name, toml::source_index line) {
  if (node.is_table()) return node.as_table();
  mistake(line, name + " must be a table: [" + name + "]");
  return nullptr;
}

void FileReader::unknown(toml::source_index line, const std::string& prefix, std::string_view name,
                         const std::vector<std::string>& known, const std::string& more) {
  std::string text = "unknown key \"" + prefix + std::string(name) + "\"";
  auto meant = nearest(name, known);
  if (!meant.empty()) {
    text += "; did you mean \"" + prefix + meant + "\"?";
  } else {
    text += "; known here:";
    for (const auto& key : known) text += " " + key;
    if (!more.empty()) text += ".";
  }
  mistake(line, text + more);
}

Result<void> FileReader::result() {
  if (mistakes_.empty()) return {};
  std::stable_sort(mistakes_.begin(), mistakes_.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::string text;
  for (const auto& [line, what] : mistakes_) {
    if (!text.empty()) text += '\n';
    text += file_.string() + ":" + std::to_string(line) + ": " + what;
  }
  return Error{Code::bad_request, text, ""};
}

}  // namespace myelin::cli::conf

#include "cli/config.hpp"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "cli/config_file.hpp"
#include "cli/engine_files.hpp"

extern char** environ;  // NOLINT

namespace myelin::cli {

using namespace conf;  // NOLINT

namespace {

constexpr uid_t default_worker_uid = 61525;

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

/// The client's secret from outside the file, and what follows from the rest.
void complete_oidc(const Surroundings& around, Config& config, std::vector<std::string>& mistakes) {
  auto& oidc = config.oidc;
  auto secret = variable(around.environment, "MYELIN_OIDC_CLIENT_SECRET");
  if (oidc.issuer.empty()) {
    if (secret) config.notes.emplace_back("MYELIN_OIDC_CLIENT_SECRET does nothing here: there is no [oidc]");
    return;
  }
  if (secret) {
    oidc.client_secret = *secret;
  } else if (config.oidc_secret_file) {
    const auto& file = *config.oidc_secret_file;
    auto text = read_file(file, 4096);
    if (!text) mistakes.push_back(text.error().message);
    else if (!*text || trimmed(**text).empty()) mistakes.push_back("oidc.client_secret_file " + file.string() + " holds no secret");
    else oidc.client_secret = trimmed(**text);
    if (others_can_read(file)) config.warnings.push_back(file.string() + " holds a secret and can be read by others: chmod 600 it");
  } else if (!oidc.client_secret.empty() && config.file && others_can_read(*config.file)) {
    config.warnings.push_back(config.file->string() + " holds a secret and can be read by others: chmod 600 it");
  }
  if (oidc.name.empty()) oidc.name = accounts::oidc::host_of(oidc.issuer);
  if (config.auth == Auth::none) config.notes.emplace_back("[oidc] does nothing here: auth is \"none\"");
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

bool holds_password(const std::string& address) {
  const auto at = address.find('@');
  return address.find("password=") != std::string::npos || (at != std::string::npos && address.find(':', address.find("//")) < at);
}

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
  for (const auto& name : engine_names()) config.engines[name].kind = name;
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
  // Engines of DIR/engines come before the file's tables, which may set limits for them.
  std::optional<FileReader> reader;
  if (text) {
    reader.emplace(*config.file, around.home, config);
    reader->parse(*text);
    if (!data_text && !in_data) reader->take_data();
  }
  if (!config.data.empty()) {
    auto engines = read_engine_files(around.home, config);
    if (!engines) mistakes.push_back(engines.error().message);
  }
  if (reader) {
    auto read = reader->read(!in_data);
    if (!read) mistakes.push_back(read.error().message);
    if ((config.token || holds_password(config.database)) && others_can_read(*config.file)) {
      config.warnings.push_back(config.file->string() +
                                " holds a token or a password and can be read by others: chmod 600 it");
    }
  }
  apply_environment(around, config, mistakes);
  apply_flags(flags, around, config, mistakes);
  complete_oidc(around, config, mistakes);

  if (mistakes.empty() && config.data.empty()) {
    mistakes.emplace_back("there is no home folder to keep data in: give --data DIR or set MYELIN_DATA");
  }
  if (mistakes.empty() && config.auth == Auth::none && !is_loopback(config.host)) {
    mistakes.push_back("auth = \"none\" is for a loopback address only, and host is " + config.host +
                       ": use a token, or host 127.0.0.1");
  }
  if (mistakes.empty() && config.tls_cert.has_value() != config.tls_key.has_value())
    mistakes.push_back(config.tls_cert ? "tls_cert needs its key: set tls_key too" : "tls_key needs its certificate: set tls_cert too");
  const bool behind_proxy = config.public_url.starts_with("https://") && !config.trusted_proxies.empty();
  auto plain_to_others = [&](const std::string& host) {
    if (!mistakes.empty() || is_loopback(host) || config.tls_cert || behind_proxy || config.allow_plain_http) return;
    mistakes.push_back("passwords and tokens would go over the network as plain text at " + host +
                       (config.nest_face ? ": if that is a network of your own, or a container whose port only this machine reaches, start it as "
                                           "`MYELIN_ALLOW_PLAIN_HTTP=true nest-server start …`. Else" : ":") +
                       " set tls_cert and tls_key, or public_url = \"https://…\" with trusted_proxies for a proxy in front, or allow_plain_http = true in a network of your own");
  };
  for (const auto* face : {&config.nest_listen, &config.neuroapi_listen})
    if (mistakes.empty() && *face && config.auth == Auth::none && !is_loopback((*face)->host))
      mistakes.push_back("auth = \"none\" is for a loopback address only, and a face listens at " + (*face)->host);
  plain_to_others(config.host);
  for (const auto* face : {&config.nest_listen, &config.neuroapi_listen})
    if (*face) plain_to_others((*face)->host);
  if (!mistakes.empty()) {
    std::string all;
    for (const auto& mistake : mistakes) all.append(all.empty() ? "" : "\n").append(mistake);
    return Error{Code::bad_request, all, ""};
  }
  fill_in(config, around);
  return config;
}

}  // namespace myelin::cli

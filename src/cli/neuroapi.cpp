#include "cli/neuroapi.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "accounts/book.hpp"
#include "accounts/passwords.hpp"
#include "cli/serve.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t shortest_secret = 32;

void say(const std::string& text) {
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
}

int complain(const std::string& text) {
  std::fflush(stdout);
  std::fputs(("neuroapi: " + text + "\n").c_str(), stderr);
  return 1;
}

void usage() {
  say("Usage: neuroapi [OPTIONS] COMMAND [ARGS]...\n"
      "\n"
      "Options:\n"
      "  --version  Show the version\n"
      "  --help     Show this message and exit.\n"
      "\n"
      "Commands:\n"
      "  init    Make the database and its first admin, whose password is printed; take over the users of DATABASE_URI.\n"
      "  routes  Show the routes.\n"
      "  run     Serve NeuroAPI's routes: -h/--host [127.0.0.1], -p/--port [5000], --cert and --key (PEM) for https.\n"
      "\n"
      "Variables, also in a file .flaskenv: SECRET_KEY (32 bytes or more; without one it is made and kept), DATABASE_URI (an SQLite file\n"
      "whose users are taken over), FLASK_ENV (development: indented answers; production: compact ones), MYELIN_DATA (the folder of all\n"
      "data).");
}

void routes() {
  say("Endpoint           Methods           Rule\n"
      "-----------------  ----------------  -----------------------------\n"
      "api.functions      GET, POST         /api/v1/function\n"
      "api.user_by_id     DELETE, GET, PUT  /api/v1/users/<int:user_id>\n"
      "api.users          GET, POST         /api/v1/users\n"
      "auth.login         POST              /auth/login\n"
      "auth.refresh       POST              /auth/refresh\n"
      "auth.revoke_access_token   DELETE    /auth/revoke_access\n"
      "auth.revoke_refresh_token  DELETE    /auth/revoke_refresh\n"
      "swagger_json       GET               /swagger.json\n"
      "swagger_ui         GET               /swagger-ui");
}

std::optional<std::string> text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

accounts::Actor by_import() { return {"operator", "neuroapi import", ""}; }

// What `admin` had from the original's own `init`.
bool everybody_knows(std::string_view hash) { return accounts::verify_password(hash, "admin").right; }

class NeuroApi {
 public:
  explicit NeuroApi(Surroundings around) : around_(std::move(around)) {}

  int run(std::vector<std::string> arguments) {
    std::string command;
    if (!arguments.empty()) {
      command = arguments.front();
      arguments.erase(arguments.begin());
    }
    if (command == "--version") return say("myelin " MYELIN_VERSION), 0;
    if (command.empty() || command == "--help") return usage(), 0;
    if (command == "routes") return routes(), 0;
    if (command == "shell" || command == "db")
      return complain("there is no `" + command + "` here: users are managed by `myelin user`, and the database looks after its own form");
    if (command != "init" && command != "run") {
      usage();
      return complain("No such command \"" + command + "\"."), 2;
    }
    if (!arguments.empty() && arguments.front() == "--help") return usage(), 0;
    // A variable that is set comes before the file.
    for (const auto& [name, value] : parse_flaskenv(text_of(fs::current_path() / ".flaskenv").value_or(""))) around_.environment.emplace(name, value);
    return command == "init" ? init(arguments) : serve_face(arguments);
  }

 private:
  std::string env(const std::string& name) const {
    auto found = around_.environment.find(name);
    return found == around_.environment.end() ? "" : found->second;
  }

  // With the data of NeuroAPI's servers apart from the usual ones, unless it is said where they are.
  Result<Config> configured(const std::optional<std::string>& host, const std::optional<std::string>& port, Flags flags) {
    const fs::path usual = default_data(around_);
    if (env("MYELIN_DATA").empty() && !usual.empty()) flags["data"] = (usual / "neuroapi").string();
    flags["host"] = host.value_or("127.0.0.1");
    flags["port"] = port.value_or("5000");
    auto config = load(flags, around_);
    if (!config) return config.take_error();
    const std::string secret = env("SECRET_KEY");
    if (!secret.empty() && secret.size() < shortest_secret)
      return Error{Code::bad_request,
                   "SECRET_KEY has " + std::to_string(secret.size()) +
                       " bytes; whoever guesses it signs in as anybody, so 32 are the least. Make one by\n"
                       "  python3 -c 'import secrets; print(secrets.token_urlsafe(48))'\n"
                       "or leave it away (also in .flaskenv): then one is made and kept in " + (config->data / "secret").string(),
                   ""};
    if (!secret.empty()) config->secret_key = secret;
    config->neuroapi_only = true;
    const std::string mode = env("FLASK_ENV");
    config->neuroapi_compact = !mode.empty() && mode != "development";
    flags_ = std::move(flags);
    return config;
  }

  static Result<store::Database> open(const Config& config) {
    std::error_code error;
    const bool made = fs::create_directories(config.data, error);
    if (error) return Error{Code::internal, "can't make " + config.data.string() + ": " + error.message(), ""};
    if (made) fs::permissions(config.data, fs::perms::owner_all, error);
    return store::open_state({config.data, config.database});
  }

  // Once for each file: a user that was deleted here does not come back at the next start.
  Result<void> take_over(store::Database& database, const Config& config) {
    const std::string uri = env("DATABASE_URI");
    if (uri.empty()) return {};
    auto file = sqlite_file_of(uri);
    if (!file) return file.take_error();
    std::error_code error;
    if (!*file || !fs::exists(**file, error)) return {};
    const std::string path = fs::canonical(**file, error).string();
    const fs::path record = config.data / "neuroapi-imported";
    const std::string before = text_of(record).value_or("");
    if (("\n" + before).find("\n" + path + "\n") != std::string::npos) return {};
    auto from = store::Database::read(path);
    if (!from) return from.take_error();
    auto done = import_neuroapi_users(*from, database);
    if (!done) return done.take_error();
    std::ofstream(record, std::ios::app) << path << "\n";
    say("took over " + std::to_string(done->users) + " users of " + path + (done->known > 0 ? "; " + std::to_string(done->known) + " were here already" : ""));
    for (const auto& name : done->cleartext)
      say("the password of " + name + " was stored as it is and is void: an admin sets another, PUT /api/v1/users/<id> {\"password\": …}");
    for (const auto& why : done->refused) say("not taken over: " + why);
    if (done->password) say("the password of admin was \"admin\"; it is now " + *done->password + " and must be changed at the first login");
    return {};
  }

  int init(const std::vector<std::string>& arguments) {
    if (!arguments.empty()) return complain("init takes no arguments"), 2;
    auto config = configured(std::nullopt, std::nullopt, {});
    if (!config) return complain(config.error().message);
    if (auto file = sqlite_file_of(env("DATABASE_URI")); !env("DATABASE_URI").empty() && !file) return complain(file.error().message);
    say("create database");
    auto database = open(*config);
    if (!database) return complain(database.error().message);
    if (auto done = take_over(*database, *config); !done) return complain(done.error().message);
    say("done\ncreate user");
    std::string password;
    auto admin = make_first_admin(*database, *config, password);
    if (!admin) return complain(admin.error().message);
    if (!*admin) return say("there is an admin already"), 0;
    say("created user " + **admin);
    if (!password.empty())
      say("its password is " + password + "\nit must be changed first: log in, then PUT /api/v1/users/<id> {\"password\": \"…\"}");
    return 0;
  }

  int serve_face(const std::vector<std::string>& arguments) {
    std::optional<std::string> host, port;
    Flags flags;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      std::string name = arguments[i], value;
      const auto equals = name.find('=');
      const bool joined = name.starts_with("--") && equals != std::string::npos;
      if (joined) {
        value = name.substr(equals + 1);
        name.erase(equals);
      } else if (name.size() > 2 && (name.starts_with("-h") || name.starts_with("-p"))) {
        value = name.substr(2);
        name.erase(2);
      }
      if (name == "-h" || name == "--host" || name == "-p" || name == "--port" || name == "--cert" || name == "--key") {
        if (value.empty()) {
          if (++i >= arguments.size()) return complain(name + " option requires an argument"), 2;
          value = arguments[i];
        }
        if (name == "--cert" || name == "--key") flags[name == "--cert" ? "tls_cert" : "tls_key"] = value;
        else (name == "-h" || name == "--host" ? host : port) = value;
      } else if (name == "--help") {
        return usage(), 0;
      } else if (std::find(idle.begin(), idle.end(), name) == idle.end()) {
        return complain("no such option: " + name), 2;
      }
    }
    auto config = configured(host, port, std::move(flags));
    if (!config) return complain(config.error().message);
    {
      auto database = open(*config);
      if (!database) return complain(database.error().message);
      if (auto done = take_over(*database, *config); !done) return complain(done.error().message);
    }
    return serve(std::move(*config), flags_, around_, false);
  }

  // Of Flask's own server: accepted, and without a meaning here.
  static constexpr std::array<std::string_view, 8> idle = {"--reload",       "--no-reload",    "--debugger",     "--no-debugger",
                                                           "--eager-loading", "--lazy-loader", "--with-threads", "--without-threads"};

  Surroundings around_;
  Flags flags_;
};

}  // namespace

std::map<std::string, std::string> parse_flaskenv(std::string_view text) {
  std::map<std::string, std::string> out;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    auto trim = [](std::string& of) {
      of.erase(0, std::min(of.find_first_not_of(" \t\r"), of.size()));
      of.erase(of.find_last_not_of(" \t\r") + 1);
    };
    trim(line);
    if (line.starts_with("export ")) line.erase(0, 7);
    const auto equals = line.find('=');
    if (line.empty() || line.front() == '#' || equals == std::string::npos) continue;
    std::string name = line.substr(0, equals), value = line.substr(equals + 1);
    trim(name);
    trim(value);
    if (value.size() > 1 && (value.front() == '"' || value.front() == '\'') && value.find(value.front(), 1) != std::string::npos) {
      value = value.substr(1, value.find(value.front(), 1) - 1);
    } else if (auto comment = value.find(" #"); comment != std::string::npos) {
      value.erase(comment);
      trim(value);
    }
    if (!name.empty()) out[name] = value;
  }
  return out;
}

Result<std::optional<fs::path>> sqlite_file_of(std::string_view uri) {
  constexpr std::string_view scheme = "sqlite://";
  if (!uri.starts_with(scheme))
    return Error{Code::bad_request,
                 "DATABASE_URI names a database that is not SQLite, and this server keeps its accounts in its own data (or where MYELIN_DATABASE says). To take over users, "
                 "copy the table \"user\" into an SQLite file and name that (sqlite:///path); else unset it",
                 ""};
  uri.remove_prefix(scheme.size());
  uri = uri.substr(0, uri.find('?'));
  if (uri.empty() || uri == "/" || uri == "/:memory:") return std::optional<fs::path>();
  if (uri.front() != '/') return Error{Code::bad_request, "DATABASE_URI of an SQLite file is sqlite:///relative or sqlite:////absolute", ""};
  return std::optional(fs::path(uri.substr(1)));  // sqlite:///a is relative, sqlite:////a is not
}

Result<Imported> import_neuroapi_users(store::Database& from, store::Database& to) {
  struct Row {
    std::int64_t number = 0;
    std::string username, email, password;
    bool active = true;
  };
  std::vector<Row> rows;
  auto asked = from.query("SELECT id, username, email, password, active FROM \"user\" ORDER BY id", {}, [&rows](const store::Row& row) {
    rows.push_back({row.integer(0), row.text(1), row.is_null(2) ? "" : row.text(2), row.is_null(3) ? "" : row.text(3), row.is_null(4) || row.integer(4) != 0});
  });
  if (!asked) return Error{Code::bad_request, from.file().string() + " is no database of NeuroAPI: " + asked.error().message, ""};
  accounts::Book book(to);
  auto admins = book.records().count_admins();
  if (!admins) return admins.take_error();
  Imported out;
  for (const Row& row : rows) {
    accounts::NewUser user;
    user.username = row.username;
    if (!row.email.empty()) user.email = row.email;
    user.active = row.active;
    user.number = row.number;
    if (row.username == "admin" && row.active && *admins == 0) user.role = "admin";
    if (accounts::is_known_hash(row.password)) user.password_hash = row.password;
    std::optional<std::string> fresh;
    if (row.username == "admin" && user.role == "admin" && (user.password_hash.empty() || everybody_knows(user.password_hash))) {
      fresh = accounts::make_password();
      auto hash = accounts::hash_password(*fresh);
      if (!hash) return hash.take_error();
      user.password_hash = std::move(*hash);
      user.must_change = true;
    } else if (row.username == "admin" && everybody_knows(user.password_hash)) {
      user.password_hash.clear();
    }
    auto made = book.add_user(by_import(), user);
    if (!made) {
      if (made.error().code == Code::conflict) {
        ++out.known;
        continue;
      }
      if (made.error().code != Code::bad_request) return made.take_error();
      out.refused.push_back("user " + std::to_string(row.number) + ": " + made.error().message);
      continue;
    }
    ++out.users;
    if (fresh) out.password = fresh;
    else if (user.password_hash.empty()) out.cleartext.push_back(row.username);
  }
  return out;
}

int neuroapi_main(const std::vector<std::string>& arguments, Surroundings surroundings) { return NeuroApi(std::move(surroundings)).run(arguments); }

}  // namespace myelin::cli

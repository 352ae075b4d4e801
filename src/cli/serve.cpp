#include "cli/serve.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>

#include "accounts/accounts.hpp"
#include "accounts/passwords.hpp"
#include "api/api.hpp"
#include "api/oidc.hpp"
#include "api/pages.hpp"
#include "async/pool.hpp"
#include "base/log.hpp"
#include "cli/backup.hpp"
#include "cli/engine_options.hpp"
#include "function/drafts.hpp"
#include "function/run_cell.hpp"
#include "function/functions.hpp"
#include "function/sweeps.hpp"
#include "http/server.hpp"
#include "http/tls.hpp"
#include "os/lock_file.hpp"
#include "os/cgroup.hpp"
#include "os/host.hpp"
#include "os/process.hpp"
#include "os/seccomp.hpp"
#include "os/supervisor.hpp"
#include "session/manager.hpp"
#include "store/migrate.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;
using async::milliseconds;
using async::Task;

constexpr milliseconds stop_grace{8'000};

int fail(const Error& error) {
  log::error(error.message);
  return 1;
}

// Of one session's recorded events, on disk, in bytes. The variable is for tests.
std::uint64_t stream_budget() {
  const char* given = std::getenv("MYELIN_STREAM_BUDGET");
  const std::uint64_t bytes = given ? std::strtoull(given, nullptr, 10) : 0;
  return bytes ? bytes : 1024 * mib;
}

void read_app(api::Context& context, const fs::path& directory) {
  auto files = http::StaticFiles::open(context.pool, directory.string());
  std::error_code error;
  if (files && fs::exists(directory / "index.html", error)) context.app = std::move(*files);
  else log::warning("the page at /app/ is not served: " + directory.string() + " holds no index.html; `make web` builds it");
}

void read_desktop(api::Context& context, const fs::path& directory) {
  if (directory.empty()) return;
  auto files = http::StaticFiles::open(context.pool, directory.string());
  if (!files) {
    log::warning("NEST Desktop is not served: " + files.error().message);
    return;
  }
  std::ifstream index(directory / "index.html");
  std::string html((std::istreambuf_iterator<char>(index)), {});
  if (html.empty()) return;
  context.desktop = std::move(*files);
  context.desktop_index = api::pages::pointed_here(html);
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : ",") + part;
  return out;
}

struct Stopper {
  async::Loop& loop;
  http::Server& server;
  session::Manager& sessions;
  bool stopping = false;
};

Task<void> stop_all(Stopper* stopper) {
  // Calls in flight finish within the grace; then their sessions end, and the server answers what still waits.
  async::TaskGroup both(stopper->loop);
  both.spawn(stopper->sessions.stop(stop_grace), "stop sessions");
  both.spawn(stopper->server.stop(stop_grace + milliseconds(500)), "stop http");
  bool joined = co_await both.join(stop_grace + milliseconds(1'500));
  (void)joined;
  stopper->loop.stop();
}

// All that a user who was deactivated or deleted has running or waiting.
struct Ending {
  accounts::Accounts& accounts;
  session::Manager& sessions;
  session::Jobs& jobs;
  function::Functions& functions;

  void end_all_of(const std::string& user) {
    jobs.end_all_of(user);
    functions.end_all_of(user);
    sessions.end_all_of(user, "user_ended", "the user's account was deactivated or deleted");
  }
};

// A request that was let in just before may have begun something just after.
Task<void> end_the_late(Ending* ending, std::string user) {
  for (int look = 0; look < 3; ++look) {
    co_await async::sleep_for(milliseconds(300));
    auto* record = ending->accounts.who().user(user);
    if (record && record->active) co_return;
    ending->end_all_of(user);
  }
}

Task<void> open_sessions(session::Manager* sessions, run::Runs* runs, function::Drafts* drafts, async::Loop* loop, bool* failed) {
  std::string first = "nest";
  auto opened = co_await sessions->open(first);
  if (opened) opened = co_await runs->open();
  if (opened) opened = co_await drafts->open();
  if (!opened) {
    log::error(opened.error().message);
    *failed = true;
    loop->stop();
  }
}

// The loop still turns. One that does not is ended, and the server started anew, rather than that nobody is answered.
Task<void> say_alive(milliseconds patience) {
  for (;;) {
    os::tell_supervisor("WATCHDOG=1");
    co_await async::sleep_for(patience / 4);
  }
}

// Engines that were added or removed while the server runs, by `myelin engine` or by hand.
class EngineWatch {
 public:
  EngineWatch(Config& config, Flags flags, const Surroundings& surroundings, session::Manager& sessions, bool namespaces)
      : config_(config), flags_(std::move(flags)), surroundings_(surroundings), sessions_(sessions), namespaces_(namespaces) {}

  static Task<void> run(EngineWatch* self) {
    for (;;) {
      co_await async::sleep_for(milliseconds(1000));
      self->look();
    }
  }
  void look_again() { pending_ = true; }

 private:
  fs::file_time_type stamp() const {
    std::error_code error;
    auto time = fs::last_write_time(config_.data / "engines", error);
    return error ? fs::file_time_type::min() : time;
  }

  void look() {
    auto now = stamp();
    if (now == seen_ && !pending_) return;
    seen_ = now;
    // What changed just now may be half written, or change again within the clock's tick.
    pending_ = fs::file_time_type::clock::now() - now < std::chrono::seconds(2);
    auto fresh = load(flags_, surroundings_);
    if (!fresh) {
      log::warning("engines stay as they are: " + fresh.error().message);
      return;
    }
    for (auto known = config_.engines.begin(); known != config_.engines.end();) {
      auto found = fresh->engines.find(known->first);
      if (!known->second.added || (found != fresh->engines.end() && found->second == known->second)) {
        ++known;
        continue;
      }
      log::info("engine " + known->first + " was removed; sessions that it has live on");
      sessions_.withdraw_engine(known->first);
      known = config_.engines.erase(known);
    }
    for (auto& [name, engine] : fresh->engines) {
      if (!engine.added || config_.engines.count(name)) continue;
      config_.engines[name] = engine;
      if (sessions_.add_engine(engine_options(config_, name, surroundings_.executable, namespaces_))) {
        log::info("engine " + name + " was added");
      } else {  // its former self has sessions
        config_.engines.erase(name);
        pending_ = true;
      }
    }
  }

  Config& config_;
  Flags flags_;
  const Surroundings& surroundings_;
  session::Manager& sessions_;
  bool namespaces_;
  fs::file_time_type seen_ = fs::file_time_type::min();  // what came after the settings were read at the start is seen too
  bool pending_ = false;
};

}  // namespace

Result<std::optional<std::string>> make_first_admin(store::Database& database, const Config& config, std::string& printed) {
  accounts::Book book(database);
  auto admins = book.records().count_admins();
  if (!admins) return admins.take_error();
  if (*admins > 0) return std::optional<std::string>();
  std::string password = config.admin_password.value_or(accounts::make_password());
  auto hash = accounts::hash_password(password);
  if (!hash) return hash.take_error();
  auto made = book.make_admin(*hash, config.admin_password.has_value());
  if (made && !config.admin_password) printed = std::move(password);
  return made;
}

int serve(Config config, Flags flags, const Surroundings& surroundings, bool show_link) {
  ::umask(0077);
  for (const auto& note : config.notes) log::info(note);
  for (const auto& warning : config.warnings) log::warning(warning);

  if (auto whole = check_restored(config.data); !whole) return fail(whole.error());
  auto token = operator_token(config);  // makes DIR too
  if (!token) return fail(token.error());
  if (!token->warning.empty()) log::warning(token->warning);
  std::error_code error;
  fs::create_directories(config.data / "users", error);
  fs::create_directories(config.data / "scratch", error);
  fs::create_directories(config.data / "cache", error);
  if (error) return fail({Code::internal, "can't make " + config.data.string() + ": " + error.message(), ""});
  auto lock = os::LockFile::acquire((config.data / "lock").string());
  if (!lock)
    return fail({Code::conflict, "another server uses " + config.data.string() + ": stop it, or give another --data (" + lock.error().message + ")", ""});

  if (auto files = os::raise_descriptor_limit(); files < config.limits.connections + 1024)
    log::warning("this process may open " + std::to_string(files) + " files, too few for " + std::to_string(config.limits.connections) +
                 " connections and the sessions: raise `ulimit -Hn` (LimitNOFILE= of the service)");
  auto host = os::probe_host({config.sandbox_binary.string(), config.worker_uid});
  bool namespaces = host.level != os::IsolationLevel::reduced;
  bool reduced_allowed = config.isolation == Isolation::reduced;
  bool exec = config.exec_allowed(namespaces);
  for (auto& finding : host.findings)
    if (!finding.ok) log::warning(finding.name + ": " + finding.text + (finding.repair.empty() ? "" : ". Repair: " + finding.repair));
  std::shared_ptr<os::CgroupTree> groups;
  std::uint64_t memory = os::total_memory_bytes();
  if (host.level == os::IsolationLevel::full) {
    auto tree = os::CgroupTree::open(os::cgroup_name(config.data.string()));
    if (tree) {
      groups = std::shared_ptr<os::CgroupTree>(new os::CgroupTree(std::move(*tree)), [](os::CgroupTree* last) {
        last->close();
        delete last;
      });
      auto set = groups->set_memory_limit(config.limits.memory_all.of(memory));
      if (!set) log::warning("the memory limit of all sessions is not set: " + set.error().message);
    } else {
      log::warning("no control groups: " + tree.error().message);
    }
  }
  // Without namespaces a session reaches its files by their own path: through DIR, not into it.
  if (!namespaces && config.worker_uid) ::chmod(config.data.c_str(), 0711);
  for (const char* name : {"users", "cache", "scratch"})  // what the processes below the keeper open by themselves
    if (config.worker_uid && ::chown((config.data / name).c_str(), *config.worker_uid, *config.worker_uid) != 0)
      return fail({Code::internal, "can't give " + (config.data / name).string() + " to the sessions' uid", ""});
  std::string isolation = !namespaces ? "reduced" : groups ? "full" : "no cgroup";
  if (isolation == "no cgroup")
    log::warning("isolation: no cgroup. Memory is watched, not enforced by the kernel");
  if (isolation == "reduced")
    log::warning("isolation: REDUCED. Sessions are not isolated from each other nor from this user's files; " +
                 std::string(reduced_allowed ? "allowed by the configuration" : "one user only"));

  auto filter = os::seccomp_program();
  if (!filter) return fail(filter.error());
  const store::Place place(config.data, config.database);
  auto database = store::open_state(place, store::Use::server);
  if (!database) return fail(database.error());
  auto loop_database = store::open_connection(place, store::Use::watcher);  // the loop's own
  if (!loop_database) return fail(loop_database.error());
  std::string first_password;  // of an admin that was made now
  std::string first_admin;
  accounts::Options account_options;
  if (config.auth == Auth::token) {
    auto secret = signing_secret(config);
    if (!secret) return fail(secret.error());
    account_options.secret = std::move(*secret);
    auto admin = make_first_admin(*database, config, first_password);
    if (!admin) return fail(admin.error());
    first_admin = admin->value_or("");
  }

  async::Loop loop;
  {
    unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    async::Pool pool(loop, std::clamp(cores, 2u, 8u));
    async::Pool database_pool(loop, 1);

    session::ManagerOptions options;
    for (const auto& [name, engine] : config.engines)
      options.engines.push_back(engine_options(config, name, surroundings.executable, namespaces));
    options.limits_for = [&config, memory](const std::string& engine, const std::string& user) {
      return session_limits(config.limits_for(engine, user), memory);
    };
    options.mounts_for = [&config](const std::string& engine, const std::string& user) {
      std::vector<worker::Mount> out;
      auto in = [](const std::vector<std::string>& list, const std::string& name) {
        return list.empty() || std::find(list.begin(), list.end(), name) != list.end();
      };
      for (const auto& mount : config.mounts)
        if (in(mount.engines, engine) && in(mount.users, user))
          out.push_back({mount.path.string(), mount.target.string(), mount.writable});
      return out;
    };
    options.seccomp_program = *filter;
    options.users_directory = (config.data / "users").string();
    options.uid = config.worker_uid;
    options.memory_all_bytes = config.limits.memory_all.of(memory);
    options.modules = config.modules;
    options.one_user_only = !namespaces && !reduced_allowed;
    options.threads = cores;
    session::Manager sessions(loop, pool, database_pool, *database, groups, std::move(options));

    live::Streams streams(loop, pool, (config.data / "streams").string(), stream_budget());
    if (auto opened = streams.open(); !opened) return fail(opened.error());

    run::RunsOptions run_options;
    run_options.directory = (config.data / "runs").string();
    run_options.quota_bytes = config.limits.run_quota.of(0);
    run::Runs runs(loop, pool, database_pool, *database, std::move(run_options));
    session::Jobs jobs(loop, sessions, runs);

    function::Options function_options;
    function_options.folder = config.functions.directory.empty() ? config.data / "functions" : config.functions.directory;
    function_options.packages = config.data / "packages";
    function_options.cache_bytes = config.functions.cache.of(0);
    function_options.deadline = std::chrono::seconds(config.functions.deadline_s);
    function_options.scripts = exec;
    function_options.sweep_points = config.functions.sweep_points;
    function_options.runner.calls = config.functions.calls ? config.functions.calls : std::max(4u, 2 * cores);
    function_options.runner.spares = config.functions.spares;
    function_options.runner.batch = cores;
    function::Functions functions(loop, pool, sessions, runs, jobs, std::move(function_options));
    if (auto opened = functions.open(); !opened) return fail(opened.error());
    if (auto added = functions.add(function::run_cell()); !added) return fail(added.error());
    function::Drafts drafts(pool, database_pool, *database, functions, (config.data / "packages" / "drafts").string());
    function::Sweeps sweeps(loop, pool, sessions, jobs, functions, (config.data / "scratch").string());

    accounts::Accounts accounts(loop, database_pool, *database, *loop_database, std::move(account_options));
    accounts.who().set_operator_token(token->token);
    std::optional<api::OidcProvider> oidc;
    if (config.auth == Auth::token && !config.oidc.issuer.empty()) oidc.emplace(loop, config.oidc);
    auto origins = http::OriginPatterns::parse(join(config.cors_origins));
    if (!origins) return fail(origins.error());

    api::Context context{.settings = {}, .loop = loop, .pool = pool,
                         .accounts = config.auth == Auth::token ? &accounts : nullptr, .oidc = oidc ? &*oidc : nullptr, .sessions = sessions, .streams = streams, .runs = runs, .jobs = jobs, .functions = functions, .drafts = drafts, .sweeps = sweeps,
                         .origins = std::move(*origins), .app = std::nullopt, .desktop = std::nullopt, .desktop_index = "", .public_calls = {}};
    context.settings.auth = config.auth == Auth::token;
    context.settings.exec = exec;
    context.settings.nonfinite_bare = config.nonfinite == Nonfinite::bare;
    context.settings.json_depth = config.limits.json_depth;
    context.settings.hosts = config.allowed_hosts;
    context.settings.hosts.push_back(config.host);
    if (auto name = accounts::oidc::host_of(config.public_url); !name.empty()) context.settings.hosts.push_back(name);
    context.settings.proxies = config.trusted_proxies;
    context.settings.public_url = config.public_url;
    auto any = [](const std::string& at) { return at == "0.0.0.0" || at == "::"; };
    context.settings.any_host = any(config.host);
    for (const auto* face : {&config.nest_listen, &config.neuroapi_listen})
      if (*face) {
        context.settings.hosts.push_back((*face)->host);
        context.settings.any_host = context.settings.any_host || any((*face)->host);
      }
    context.settings.public_functions = config.functions.allow_public;
    context.settings.neuroapi_compact = config.neuroapi_compact;
    context.settings.isolation = isolation;
    read_app(context, config.web);
    read_desktop(context, config.desktop);

    api::Api api(context);
    http::Limits limits;
    limits.header_bytes = config.limits.header_kib * 1024;
    limits.body_bytes = config.limits.body_mib * mib;
    limits.connections = config.limits.connections;
    http::Server server(loop, limits, api);
    context.http = &server;
    const auto main_face = config.neuroapi_only ? api::Face::neuroapi : api::Face::all;
    std::shared_ptr<http::Tls> tls;
    if (config.tls_cert) {
      auto made = http::Tls::make(*config.tls_cert, *config.tls_key);
      if (!made) return fail(made.error());
      tls = std::move(*made);
    }
    auto address = server.listen(config.host, config.port, static_cast<unsigned>(main_face), tls);
    if (!address) return fail(address.error());
    std::vector<std::pair<const char*, http::Address>> faces;
    auto listen_face = [&](const char* name, const std::optional<FaceAddress>& at, api::Face face) -> Result<void> {
      if (!at) return {};
      auto bound = server.listen(at->host, at->port, static_cast<unsigned>(face), tls);
      if (!bound) return bound.take_error();
      faces.emplace_back(name, *bound);
      return {};
    };
    if (auto done = listen_face("NEST Server", config.nest_listen, api::Face::nest); !done) return fail(done.error());
    if (auto done = listen_face("NeuroAPI", config.neuroapi_listen, api::Face::neuroapi); !done) return fail(done.error());
    if (config.socket) {  // a convenience: without it everything works by the port
      auto local = server.listen_unix((config.data / "socket").string(), 0600);
      if (!local)
        log::warning("no Unix socket: " + local.error().message + "; use the port, a --data with a shorter path, or socket = false");
    }
    server.serve();

    bool failed = false;
    EngineWatch engine_watch(config, std::move(flags), surroundings, sessions, namespaces);
    async::TaskGroup background(loop);
    background.spawn(EngineWatch::run(&engine_watch), "engine watch");
    background.spawn(open_sessions(&sessions, &runs, &drafts, &loop, &failed), "open sessions");
    background.spawn(functions.watch(), "functions watch");
    background.spawn(drafts.watch(), "drafts watch");
    if (auto patience = os::watchdog_patience()) background.spawn(say_alive(*patience), "watchdog");
    // Whoever is no more, or whose credential was revoked, has nothing open a moment later.
    Ending ending{accounts, sessions, jobs, functions};
    accounts.on_ended([&ending, &background, &server](const accounts::Ended& ended) {
      using What = accounts::Ended::What;
      if (ended.what == What::user) {
        ending.end_all_of(ended.id);
        background.spawn(end_the_late(&ending, ended.id), "end of a user");
      }
      server.cut([&](std::string_view holder) {
        auto space = holder.find(' ');
        return ended.id == (ended.what == What::credential ? holder.substr(space + 1) : holder.substr(0, space));
      });
    });
    if (config.auth == Auth::token)
      if (auto opened = accounts.open(); !opened) return fail(opened.error());

    Stopper stopper{loop, server, sessions};
    auto on_signal = [&stopper, &oidc](int) {
      if (stopper.stopping) {
        log::warning("a second signal: leaving at once");
        std::_Exit(1);
      }
      stopper.stopping = true;
      os::tell_supervisor("STOPPING=1");
      if (oidc) oidc->stop();
      log::info("stopping: calls in flight may finish within " + std::to_string(stop_grace.count() / 1000) + " s");
      async::spawn(stopper.loop, stop_all(&stopper), "stop");
    };
    loop.on_signal(SIGTERM, on_signal);
    loop.on_signal(SIGINT, on_signal);
    loop.on_signal(SIGHUP, [&engine_watch, tls](int) {
      engine_watch.look_again();
      if (!tls) return;
      if (auto done = tls->reload()) log::info("the certificate was read again");
      else log::error("the certificate could not be read again, the old one stays: " + done.error().message);
    });
    std::signal(SIGPIPE, SIG_IGN);

    auto url_of = [&tls](const http::Address& at) {
      const bool v6 = at.host.find(':') != std::string::npos;
      return (tls ? "https://" : "http://") + (v6 ? "[" + at.host + "]" : at.host) + ":" + std::to_string(at.port);
    };
    const std::string url = url_of(*address);
    log::info("isolation: " + isolation + "; scripts: " + (exec ? "on" : "off") + "; data: " + config.data.string() +
              (database->is_postgres() ? "; database: " + database->name() : ""));
    if (token->file) log::info("the access token is in " + token->file->string());
    for (const auto& [name, at] : faces) std::printf("%s on %s\n", name, url_of(at).c_str());
    std::printf("listening on %s\n", url.c_str());
    if (show_link) {
      if (config.auth == Auth::token) std::printf("open %s/app/#token=%s\n", url.c_str(), token->token.c_str());
      else std::printf("open %s/app/\n", url.c_str());
    }
    if (!first_password.empty())
      std::printf("sign in as %s with the password %s; it must be changed then\n", first_admin.c_str(), first_password.c_str());
    std::fflush(stdout);
    os::tell_supervisor("READY=1");
    loop.run();
    background.cancel();
    if (failed) return 1;
  }
  log::info("stopped");
  return 0;
}

}  // namespace myelin::cli

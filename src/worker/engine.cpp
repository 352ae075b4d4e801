#include "worker/engine.hpp"

#include <boost/json.hpp>
#include <chrono>
#include <csignal>
#include <deque>
#include <vector>

#include "async/fd_watch.hpp"
#include "base/ids.hpp"
#include "base/log.hpp"
#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/socket.hpp"
#include "os/stream.hpp"
#include "worker/sandbox_root.hpp"

namespace myelin::worker {
namespace {

namespace json = boost::json;
using async::Task;
using std::chrono::milliseconds;

constexpr milliseconds zygote_deadline{120'000};  // an import from a cold disk, on a busy machine
constexpr milliseconds spawn_deadline{30'000};
constexpr milliseconds keeper_deadline{15'000};
constexpr std::size_t message_bytes = 64 * 1024;

std::string text_of(const json::object& object, std::string_view key, std::string fallback = "") {
  auto* value = object.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : fallback;
}

std::int64_t number_of(const json::object& object, std::string_view key) {
  auto* value = object.if_contains(key);
  return value && value->is_int64() ? value->get_int64() : 0;
}

struct Init {
  pid_t pid = -1;
  os::UniqueFd pidfd;
};

// An answer that someone waits for.
template <class T>
struct Pending {
  async::Event done;
  std::optional<Result<T>> result;
  void finish(Result<T> r) {
    if (result) return;
    result.emplace(std::move(r));
    done.set();
  }
};

}  // namespace

struct Engine::Impl : std::enable_shared_from_this<Engine::Impl> {
  Impl(async::Loop& l, EngineOptions o, std::string f, OnExit e)
      : loop(l), options(std::move(o)), filter(std::move(f)), on_exit(std::move(e)), group(l) {}

  async::Loop& loop;
  EngineOptions options;
  std::string filter;
  OnExit on_exit;
  async::TaskGroup group;

  // Keeper. `generation` tells a reader that its keeper has been replaced.
  async::FdWatch keeper;
  os::Child keeper_process;
  std::uint64_t generation = 0;
  bool keeper_ready = false;
  std::string keeper_error;
  std::deque<std::shared_ptr<Pending<Init>>> inits;      // asked for, in order
  std::vector<Init> pool;
  int asked_for_pool = 0;
  async::Event changed;  // pulsed at each change below

  // Zygote.
  async::FdWatch zygote;
  pid_t zygote_pid = -1;
  std::uint64_t zygote_generation = 0;
  bool zygote_ready = false, zygote_starting = false, known = false;
  bool late = false;  // import in each session: this engine starts threads when it is imported
  std::string zygote_error;
  EngineInfo info;
  std::map<std::string, std::shared_ptr<Pending<pid_t>>> spawns;
  bool stopped = false;

  void fail_keeper(const std::string& why) {
    keeper.close();
    keeper_ready = false;
    keeper_error = why;
    ++generation;
    pool.clear();
    asked_for_pool = 0;
    Error error{Code::unavailable, why, ""};
    for (auto& waiting : inits) waiting->finish(error);
    inits.clear();
    fail_zygote(why);
    changed.pulse();
  }

  void fail_zygote(const std::string& why) {
    zygote.close();
    zygote_ready = zygote_starting = false;
    zygote_error = why;
    zygote_pid = -1;
    ++zygote_generation;
    for (auto& [id, waiting] : spawns) waiting->finish(Error{Code::unavailable, why, "zygote"});
    spawns.clear();
    changed.pulse();
  }

  // Its control socket is closed, so it kills what is below it and leaves; it must not stay a zombie.
  void reap_keeper() {
    if (keeper_process.pid <= 0) return;
    if (!os::wait_and_reap(keeper_process, 1000)) {
      (void)os::send_signal(keeper_process.pidfd.get(), SIGKILL);
      (void)os::wait_and_reap(keeper_process, 1000);
    }
    keeper_process = {};
  }

  bool tell_keeper(const std::string& text, std::span<const int> fds) {
    auto sent = os::send_message(keeper.fd(), text, fds);
    bool told = sent && *sent == text.size();
    if (!told) fail_keeper("the sandbox keeper of " + options.name + " is gone");
    return told;
  }

  Result<void> launch_keeper() {
    auto configuration = keeper_configuration(options);
    if (!configuration) return configuration.take_error();
    auto pair = os::socket_pair(os::SocketKind::packets);
    if (!pair) return pair.take_error();
    auto config_file = os::make_sealed_memfd("keeper", *configuration);
    if (!config_file) return config_file.take_error();
    auto filter_file = os::make_sealed_memfd("filter", filter);
    if (!filter_file) return filter_file.take_error();
    os::SpawnOptions start;
    start.arguments = {options.sandbox_binary, "keeper"};
    start.fds = {pair->second.get(), config_file->get(), filter_file->get()};
    start.stdout_fd = 2;  // the server's stdout says one thing only: where it listens
    auto child = os::spawn(start);
    if (!child) return child.take_error();
    keeper_process = std::move(*child);
    ++generation;
    keeper_error.clear();
    keeper = async::FdWatch(loop, pair->first.release());
    group.spawn(read_keeper(shared_from_this(), generation), "keeper");
    return {};
  }

  static Task<void> read_keeper(std::shared_ptr<Impl> self, std::uint64_t generation) {
    while (self->generation == generation) {
      bool readable = co_await self->keeper.readable();
      if (self->generation != generation || !readable) co_return;
      auto message = os::receive_message(self->keeper.fd(), message_bytes);
      if (message && message->state == os::Received::State::would_block) continue;
      if (!message || message->state == os::Received::State::end) {
        std::string why = self->keeper_error.empty() ? "the sandbox keeper of " + self->options.name + " died"
                                                     : self->keeper_error;
        self->fail_keeper(why);
        co_return;
      }
      self->on_keeper_message(message->bytes, message->fds);
    }
  }

  void on_keeper_message(const std::string& text, std::vector<os::UniqueFd>& fds) {
    auto space = text.find(' ');
    std::string verb = text.substr(0, space);
    std::string rest = space == std::string::npos ? "" : text.substr(space + 1);
    if (verb == "ready") {
      keeper_ready = true;
      changed.pulse();
    } else if (verb == "init") {
      if (inits.empty() || fds.empty()) return;
      auto waiting = inits.front();
      inits.pop_front();
      waiting->finish(Init{static_cast<pid_t>(std::atol(rest.c_str())), std::move(fds[0])});
    } else if (verb == "zygote") {
      zygote_pid = static_cast<pid_t>(std::atol(rest.c_str()));
    } else if (verb == "exit") {
      pid_t pid = 0;
      int status = 0;
      if (std::sscanf(rest.c_str(), "%d %d", &pid, &status) == 2) {
        if (pid == zygote_pid)
          fail_zygote("the zygote of " + options.name + " ended (wait status " + std::to_string(status) + ")");
        else
          on_exit(pid, status);
      }
    } else if (verb == "error") {
      std::string why = "the sandbox for " + options.name + " can't be set up: " + rest + "; `myelin doctor` says what this host lacks";
      log::error(why);
      if (!inits.empty() && keeper_ready) {
        auto waiting = inits.front();
        inits.pop_front();
        waiting->finish(Error{Code::unavailable, why, ""});
      } else {
        keeper_error = why;
      }
    }
  }

  // A keeper that stands, or why not.
  static Task<Result<void>> need_keeper(std::shared_ptr<Impl> self) {
    if (self->stopped) co_return Error{Code::unavailable, "the server is stopping", ""};
    if (!self->keeper) {
      self->reap_keeper();
      auto launched = self->launch_keeper();
      if (!launched) co_return launched.take_error();
    }
    auto deadline = std::chrono::steady_clock::now() + keeper_deadline;
    while (!self->keeper_ready && self->keeper && std::chrono::steady_clock::now() < deadline)
      co_await self->changed.wait(milliseconds(1000));
    if (self->keeper_ready) co_return Result<void>{};
    std::string why = self->keeper_error.empty() ? "the sandbox keeper did not start in time" : self->keeper_error;
    self->fail_keeper(why);
    co_return Error{Code::unavailable, why, ""};
  }

  Result<void> launch_zygote() {
    auto pair = os::socket_pair(os::SocketKind::packets);
    if (!pair) return pair.take_error();
    int fds[] = {pair->second.get()};
    zygote_starting = true;
    zygote_error.clear();
    ++zygote_generation;
    if (!tell_keeper("zygote", fds)) return Error{Code::unavailable, keeper_error, ""};
    auto filter_file = os::make_sealed_memfd("filter", filter);
    if (!filter_file) return filter_file.take_error();
    zygote = async::FdWatch(loop, pair->first.release());
    json::object hello{{"hello", json::object{{"protocol", 1}, {"filter_bytes", filter.size()}, {"late", late}}}};
    int hello_fds[] = {filter_file->get()};
    auto sent = os::send_message(zygote.fd(), json::serialize(hello), hello_fds);
    if (!sent || *sent == 0) return Error{Code::unavailable, "the zygote of " + options.name + " takes no message", ""};
    group.spawn(read_zygote(shared_from_this(), zygote_generation), "zygote");
    return {};
  }

  static Task<void> read_zygote(std::shared_ptr<Impl> self, std::uint64_t generation) {
    while (self->zygote_generation == generation) {
      bool readable = co_await self->zygote.readable();
      if (self->zygote_generation != generation || !readable) co_return;
      auto message = os::receive_message(self->zygote.fd(), message_bytes);
      if (message && message->state == os::Received::State::would_block) continue;
      if (!message || message->state == os::Received::State::end) {
        std::string why = self->zygote_error.empty() ? self->keeper_error : self->zygote_error;
        self->fail_zygote(why.empty() ? "the zygote of " + self->options.name + " died" : why);
        co_return;
      }
      json::error_code error;
      auto value = json::parse(message->bytes, error);
      if (error || !value.is_object()) {
        self->fail_zygote("the zygote of " + self->options.name + " sent a broken message");
        co_return;
      }
      self->on_zygote_message(value.get_object());
    }
  }

  void on_zygote_message(const json::object& message) {
    if (auto* ready = message.if_contains("ready"); ready && ready->is_object()) {
      const auto& o = ready->get_object();
      if (auto* versions = o.if_contains("versions"); versions && versions->is_object())
        for (const auto& [key, version] : versions->get_object())
          if (version.is_string()) info.versions[std::string(key)] = std::string(version.get_string());
      // Its own; of plain Python with packages, the first package's. One that imports late does not know it.
      std::vector<std::string> names{options.name};
      for (const auto& module : options.preload) names.push_back(module.substr(0, module.find('.')));
      if (options.kind == "python") names.push_back("python");
      else names.insert(names.begin(), options.kind);
      for (const auto& name : names)
        if (auto own = info.versions.find(name); own != info.versions.end()) {
          info.version = own->second;
          break;
        }
      if (auto* ms = o.if_contains("import_ms"); ms && ms->is_number()) info.import_ms = ms->to_number<double>();
      info.why_no_branches = text_of(o, "why_no_branches");
      if (auto* saves = o.if_contains("saves"); saves && saves->is_bool() && !late) info.saves = saves->get_bool();
      info.cold = late;
      if (!late) {
        info.thread_by = text_of(o, "thread_by");
        info.openmp.clear();
        if (auto* openmp = o.if_contains("openmp"); openmp && openmp->is_array())
          for (const auto& path : openmp->get_array())
            if (path.is_string()) info.openmp.emplace_back(path.get_string());
      } else if (info.why_no_branches.empty()) {
        info.why_no_branches = "it runs threads after its import" + (info.thread_by.empty() ? "" : " (started by " + info.thread_by + ")") +
                               ", which a copy would not have";
      }
      zygote_ready = known = true;
      zygote_starting = false;
      log::info("engine " + options.name + " " + info.version + " ready after " +
                std::to_string(static_cast<int>(info.import_ms)) + " ms" + (late ? " (each session imports it: it starts threads)" : ""));
      refill();
      changed.pulse();
    } else if (auto* spawned = message.if_contains("spawned"); spawned && spawned->is_object()) {
      finish_spawn(text_of(spawned->get_object(), "id"),
                   static_cast<pid_t>(number_of(spawned->get_object(), "pid")));
    } else if (auto* exited = message.if_contains("exited"); exited && exited->is_object()) {
      on_exit(static_cast<pid_t>(number_of(exited->get_object(), "pid")),
              static_cast<int>(number_of(exited->get_object(), "status")));
    } else if (auto* failed = message.if_contains("failed"); failed && failed->is_object()) {
      std::string reason = text_of(failed->get_object(), "reason", "unknown");
      std::string id = text_of(failed->get_object(), "id");
      log::error("engine " + options.name + ": " + reason);
      if (reason.rfind("not single-threaded", 0) == 0 && !late) {
        late = true;  // the next zygote imports nothing
        log::warning("engine " + options.name + " runs threads after its import; sessions start cold from now on");
      }
      if (id.empty())
        zygote_error = "engine " + options.name + ": " + reason;
      else
        finish_spawn(id, Error{Code::unavailable, "engine " + options.name + ": " + reason, "spawn"});
    }
  }

  void finish_spawn(const std::string& id, Result<pid_t> result) {
    auto found = spawns.find(id);
    if (found == spawns.end()) return;
    found->second->finish(std::move(result));
    spawns.erase(found);
  }

  static Task<Result<void>> need_zygote(std::shared_ptr<Impl> self) {
    auto keeper_stands = co_await need_keeper(self);
    if (!keeper_stands) co_return keeper_stands.take_error();
    if (!self->zygote_ready && !self->zygote_starting) {
      auto launched = self->launch_zygote();
      if (!launched) co_return launched.take_error();
    }
    auto deadline = std::chrono::steady_clock::now() + zygote_deadline;
    while (!self->zygote_ready && self->zygote_starting && std::chrono::steady_clock::now() < deadline)
      co_await self->changed.wait(milliseconds(1000));
    if (self->zygote_ready) co_return Result<void>{};
    std::string why = self->zygote_error.empty() ? "the zygote did not start in time" : self->zygote_error;
    if (self->zygote_starting) {
      if (self->zygote_pid > 0) ::kill(self->zygote_pid, SIGKILL);  // the keeper, its parent, has not reaped it
      self->fail_zygote(why);
    }
    co_return Error{Code::unavailable, why, ""};
  }

  void refill() {
    if (!options.namespaces) return;
    while (static_cast<int>(pool.size()) + asked_for_pool < options.pool && keeper_ready) {
      ++asked_for_pool;
      group.spawn(fill_one(shared_from_this(), generation), "init pool");
    }
  }

  static Task<void> fill_one(std::shared_ptr<Impl> self, std::uint64_t generation) {
    auto init = co_await ask_init(self);
    if (self->generation != generation) co_return;
    --self->asked_for_pool;
    if (init) self->pool.push_back(std::move(*init));
  }

  static Task<Result<Init>> ask_init(std::shared_ptr<Impl> self) {
    auto waiting = std::make_shared<Pending<Init>>();
    self->inits.push_back(waiting);
    if (!self->tell_keeper("init", {})) co_return Error{Code::unavailable, self->keeper_error, ""};
    bool answered = co_await waiting->done.wait(keeper_deadline);
    if (!answered || !waiting->result) co_return Error{Code::unavailable, "the sandbox keeper does not answer", ""};
    co_return std::move(*waiting->result);
  }

  static Task<Result<Born>> start_once(std::shared_ptr<Impl> self, SessionOptions session) {
    auto stands = co_await need_zygote(self);
    if (!stands) co_return stands.take_error();
    Init init;
    if (self->options.namespaces) {
      if (!self->pool.empty()) {
        init = std::move(self->pool.back());
        self->pool.pop_back();
        self->refill();
      } else {
        auto made = co_await ask_init(self);
        if (!made) co_return made.take_error();
        init = std::move(*made);
      }
      if (!self->zygote_ready) co_return Error{Code::unavailable, "the zygote died", "zygote"};
    }
    auto channel = os::socket_pair(os::SocketKind::stream);
    if (!channel) co_return channel.take_error();
    auto output = os::make_pipe();
    if (!output) co_return output.take_error();

    json::array mounts;
    for (const Mount& mount : session.mounts)
      for (std::size_t n = 0; n < self->options.mounts.size(); ++n)
        if (self->options.mounts[n].source == mount.source && self->options.mounts[n].target == mount.target)
          mounts.push_back(json::array{json::string("/.myelin/mounts/" + std::to_string(n)), json::string(mount.target),
                                       json::string(mount.writable ? "rw" : "ro")});
    std::string request_id = session.id + "." + random_hex(4);
    json::object request{{"spawn", json::object{
        {"id", request_id},
        {"user", session.user},
        {"mounts", std::move(mounts)},
        {"home", self->options.namespaces ? std::string("/session/home") : self->options.home + "/" + session.id + "/home"},
        {"limits", json::object{{"files", session.files}, {"processes", session.processes},
                                {"file_bytes", session.file_bytes}, {"data_bytes", session.data_bytes}}},
        {"env", json::object{}}}}};
    auto waiting = std::make_shared<Pending<pid_t>>();
    self->spawns[request_id] = waiting;
    std::vector<int> fds{channel->second.get(), output->second.get()};
    if (init.pidfd) fds.push_back(init.pidfd.get());
    auto sent = os::send_message(self->zygote.fd(), json::serialize(request), fds);
    if (!sent || *sent == 0) {
      self->fail_zygote("the zygote of " + self->options.name + " is gone");
      co_return Error{Code::unavailable, self->zygote_error, "zygote"};
    }
    channel->second.reset();
    output->second.reset();
    bool answered = co_await waiting->done.wait(spawn_deadline);
    if (!answered || !waiting->result) {
      self->spawns.erase(request_id);
      if (init.pidfd) (void)os::send_signal(init.pidfd.get(), SIGKILL);
      co_return Error{Code::unavailable, "the zygote of " + self->options.name + " does not answer", ""};
    }
    if (!*waiting->result) {
      if (init.pidfd) (void)os::send_signal(init.pidfd.get(), SIGKILL);
      co_return waiting->result->take_error();
    }
    Born born;
    born.pid = **waiting->result;
    auto pidfd = os::open_pidfd(born.pid);
    if (pidfd) born.pidfd = std::move(*pidfd);
    born.init_pid = init.pid;
    born.init = std::move(init.pidfd);
    born.channel = std::move(channel->first);
    born.output = std::move(output->first);
    co_return born;
  }

  static Task<Result<Born>> start(std::shared_ptr<Impl> self, SessionOptions session) {
    Error last;
    for (int attempt = 0; attempt < 3; ++attempt) {
      auto born = co_await start_once(self, session);
      if (born) co_return born;
      last = born.take_error();
      if (last.detail != "zygote" && last.detail != "spawn") break;
      if (self->stopped) break;
    }
    last.detail.clear();
    co_return last;
  }
};

Engine::Engine(async::Loop& loop, EngineOptions options, std::string seccomp_program, OnExit on_exit)
    : impl_(std::make_shared<Impl>(loop, std::move(options), std::move(seccomp_program), std::move(on_exit))) {}

Engine::~Engine() { stop(); }

async::Task<Result<EngineInfo>> Engine::ready() {
  auto self = impl_;
  auto stands = co_await Impl::need_zygote(self);
  if (!stands) co_return stands.take_error();
  co_return self->info;
}

async::Task<Result<Born>> Engine::start(SessionOptions options) { return Impl::start(impl_, std::move(options)); }

void Engine::adopt(pid_t pid) {
  // Without a zygote the keeper is the parent, which tells of every child.
  if (impl_->zygote_ready) (void)os::send_message(impl_->zygote.fd(), json::serialize(json::object{{"adopt", pid}}));
}

void Engine::stop() {
  if (impl_->stopped && !impl_->keeper) return;
  impl_->stopped = true;
  impl_->fail_keeper("engine " + impl_->options.name + " stopped");
  impl_->group.cancel();
  impl_->reap_keeper();
  impl_->stopped = false;
}

bool Engine::running() const { return static_cast<bool>(impl_->keeper); }
const EngineInfo* Engine::info() const { return impl_->known ? &impl_->info : nullptr; }
const EngineOptions& Engine::options() const { return impl_->options; }
pid_t Engine::zygote_pid() const { return impl_->zygote_pid; }

}  // namespace myelin::worker

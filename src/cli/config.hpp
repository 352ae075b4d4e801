#pragma once
// All settings of `myelin serve`, from four places: flag before environment before file before default.
// The file is --config (MYELIN_CONFIG), else DIR/myelin.toml, else /etc/myelin/myelin.toml. Nothing is
// guessed: an unknown key or a wrong type is an error that names file, line, key and the nearest known key;
// all errors of a file are reported at once. MYELIN_<KEY> is the environment's name of a top-level key and of
// a limit, --<key> (dashes) the flag's; an empty variable counts as unset. The NEST_SERVER_* variables are
// understood too, below MYELIN_*. Relative paths in a file start at the file's folder, elsewhere at the
// working directory; "~/" is the home.
//
// config_values: one value of one kind. config_settings, config_limits: the tables of what there is. config_file: the file and those
// of DIR/engines. config: the order of all, and what depends on the machine. operator_token: DIR/token.

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "accounts/oidc.hpp"
#include "base/result.hpp"

namespace myelin::cli {

/// Bytes, or a share of something (60 % of the memory of this machine).
struct Amount {
  std::uint64_t bytes = 0;
  double percent = 0;  // when not 0, `bytes` is unused
  [[nodiscard]] std::uint64_t of(std::uint64_t whole_bytes) const;
  bool operator==(const Amount&) const = default;
};

/// "60%", "512MiB", "2GiB", "1.5GB" (10^9), "4096" (bytes). Errors: bad_request.
Result<Amount> parse_amount(std::string_view text);

constexpr std::uint64_t mib = 1024 * 1024;
constexpr std::uint64_t gib = 1024 * mib;

/// The keys of [limits]. The second group may also stand in [engine.NAME.limits] and [user.NAME.limits], the
/// third in [user.NAME.limits].
struct Limits {
  std::uint64_t body_mib = 64;
  std::uint64_t header_kib = 8;
  std::uint64_t json_depth = 64;
  std::uint64_t connections = 4096;  // open at once; beyond: 503
  Amount memory_all{0, 80};  // of all sessions together

  std::uint64_t call_deadline_s = 0;  // 0: none
  std::uint64_t idle_s = 7200;        // of sessions other than a token's own kernel; 0: for ever
  Amount memory_per_session{0, 60};
  std::uint64_t pids = 512;
  std::uint64_t files = 1024;
  Amount scratch{2 * gib, 0};  // /tmp, working directory and /dev/shm; bytes only
  std::uint64_t queue = 64;    // calls waiting in one session
  std::uint64_t stdout_mib = 64;
  std::uint64_t cpu_weight = 100;  // 1 to 10000, as cgroup v2's

  Amount work_quota{20 * gib, 0};  // of ~/work; bytes only; 0: no quota
  Amount run_quota{10 * gib, 0};   // of a user's kept runs; bytes only; 0: no quota
  Amount checkpoints{0, 20};       // memory of all checkpoints of a user; 0: no bound
  std::uint64_t max_sessions_per_user = 64;
};

/// Some limits set anew; applied over others.
struct LimitOverrides {
  std::vector<std::pair<std::uint64_t Limits::*, std::uint64_t>> numbers;
  std::vector<std::pair<Amount Limits::*, Amount>> amounts;
  void apply(Limits& limits) const;
  bool operator==(const LimitOverrides&) const = default;
};

enum class Auth { token, none };
enum class Isolation {
  full,
  reduced
};  // full: the best this host has; reduced: without namespaces is accepted too
enum class Nonfinite { null, bare };

struct EngineConfig {
  bool added = false;                // the operator's own
  std::string kind;                  // one of engine_names()
  std::string python;                // empty: the common one
  std::vector<std::string> preload;  // modules imported by the zygote
  std::map<std::string, std::string> env;
  LimitOverrides limits;
  bool operator==(const EngineConfig&) const = default;
};

struct Mount {
  std::filesystem::path path;    // on this host
  std::filesystem::path target;  // in the session
  bool writable = false;
  std::vector<std::string> engines;  // empty: all
  std::vector<std::string> users;    // token names; empty: all
};

/// [functions]: see docs/functions.md.
struct FunctionSettings {
  std::filesystem::path directory;       // empty: DIR/functions
  std::uint64_t deadline_s = 3600;       // of a call that nothing else bounds
  Amount cache{256 * mib, 0};            // of results of deterministic functions; bytes only; 0: none
  std::uint64_t calls = 0;               // at once; 0: twice the cores, at least 4
  std::uint64_t spares = 4;              // processes kept ready
  std::uint64_t sweep_points = 10'000;   // of one sweep
  bool allow_public = true;              // functions that are marked public answer without a token
};

/// An address that a face has to itself.
struct FaceAddress {
  std::string host;
  std::uint16_t port = 0;  // 0: a free one
};

/// Those that come with the server: nest, neuron, jaxley, python. Also the kinds of the operator's own.
[[nodiscard]] const std::vector<std::string>& engine_names();

struct Config {
  std::string host = "127.0.0.1";
  std::uint16_t port = 52425;  // 0: a free one
  std::filesystem::path data;
  std::string database;  // "postgresql://…"; empty: DIR/myelin.db. It may hold a password
  std::optional<std::filesystem::path> file;  // the one that was read

  std::optional<std::string> token;                 // at most one of these two is set;
  std::optional<std::filesystem::path> token_file;  // neither: DIR/token, see operator_token
  Auth auth = Auth::token;
  std::optional<std::string> secret_key;      // at least 32 bytes
  std::optional<std::string> admin_password;  // of the first admin
  std::vector<std::string> trusted_proxies;   // numeric addresses whose X-Forwarded-For is believed
  std::optional<std::filesystem::path> tls_cert, tls_key;  // PEM; both or none
  bool allow_plain_http = false;  // on an address that others reach
  bool socket = true;  // listen on DIR/socket too
  Isolation isolation = Isolation::full;
  std::optional<bool> exec;  // see exec_allowed
  std::vector<std::string> cors_origins = {"http://localhost:*", "http://127.0.0.1:*"};
  std::vector<std::string> allowed_hosts;
  std::string public_url;  // without the last slash; may be empty
  Nonfinite nonfinite = Nonfinite::null;
  std::string modules = "import nest";  // as NEST_SERVER_MODULES, in either of its forms
  bool nest_face = false;               // started by `myelin nest-server`

  // [face.NAME] listen = "HOST:PORT": there, all but that system's own paths is as unknown as it is to that system.
  std::optional<FaceAddress> nest_listen, neuroapi_listen;
  bool neuroapi_only = false;      // started by `myelin neuroapi run`: host and port are that face's
  bool neuroapi_compact = false;   // its texts as in production

  Limits limits;
  std::map<std::string, EngineConfig> engines;  // has every engine, with those of DIR/engines
  std::map<std::string, LimitOverrides> users;  // by token name
  std::vector<Mount> mounts;
  FunctionSettings functions;
  accounts::oidc::Settings oidc;  // [oidc]; without an issuer there is none
  std::optional<std::filesystem::path> oidc_secret_file;

  std::optional<uid_t> worker_uid;  // set if and only if this is root's server
  std::string python;               // a path, or a name to be found in PATH
  std::filesystem::path web;        // the built page at /app/
  std::filesystem::path desktop;    // NEST Desktop's pages; empty: not installed
  std::filesystem::path sandbox_binary;
  std::filesystem::path enter_library;

  std::vector<std::string> notes;     // what was given and does nothing here
  std::vector<std::string> warnings;  // what ought to be changed

  /// Defaults, then the engine's, then the user's (token name).
  [[nodiscard]] Limits limits_for(std::string_view engine, std::string_view user) const;
  [[nodiscard]] const std::string& python_for(std::string_view engine) const;
  /// On unless turned off; where sessions are not isolated, off unless turned on.
  [[nodiscard]] bool exec_allowed(bool isolated) const { return exec.value_or(isolated); }
};

/// What a flag is called, for the command line's parser and its help.
struct FlagSpec {
  std::string flag;  // without dashes in front
  std::string key;   // in Flags
  std::string help;
  bool is_switch = false;  // takes no value; given means "true"
};
[[nodiscard]] std::vector<FlagSpec> serve_flags();

/// key → text, for the flags that were given.
using Flags = std::map<std::string, std::string>;
using Environment = std::map<std::string, std::string>;

/// What defaults depend on; a value so that tests can choose.
struct Surroundings {
  Environment environment;
  std::filesystem::path home;  // may be empty
  bool is_root = false;
  std::filesystem::path executable;  // of this program, absolute
  std::filesystem::path system_file = "/etc/myelin/myelin.toml";
  static Surroundings of_this_process();
};

/// Reads files, writes none. Errors: bad_request with one line per mistake.
Result<Config> load(const Flags& flags, const Surroundings& surroundings);

/// DIR where nothing else is said: ~/.local/share/myelin, for root /var/lib/myelin.
[[nodiscard]] std::filesystem::path default_data(const Surroundings& surroundings);
/// As NEST Server reads booleans: yes, true, t, 1 in any case; all else is false.
[[nodiscard]] bool nest_boolean(std::string_view text);
/// 127.0.0.0/8, ::1, localhost.
[[nodiscard]] bool is_loopback(std::string_view host);

struct OperatorToken {
  std::string token;
  std::optional<std::filesystem::path> file;  // where it is kept, if in a file
  std::string warning;                        // "" if nothing is wrong
};
/// The token of the configuration; else that in DIR/token (0600), which is made (DIR too, 0700) when it is
/// missing. Of processes that make it at the same time, one wins and all return the same. Empty with auth =
/// "none".
Result<OperatorToken> operator_token(const Config& config);
/// What signs the tokens of sign-ins: secret_key, else DIR/secret (0600), made at the first use.
Result<std::string> signing_secret(const Config& config);

}  // namespace myelin::cli

#include "cli/config.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

using namespace myelin;
using namespace myelin::cli;
namespace fs = std::filesystem;

namespace {

void write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    std::string pattern = fs::temp_directory_path() / "myelin-config-XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
    around_.home = dir_ / "home";
    around_.executable = dir_ / "project" / "build" / "myelin";
    around_.system_file = dir_ / "etc" / "myelin.toml";
    data_ = dir_ / "home/.local/share/myelin";
  }
  ~ConfigTest() override { fs::remove_all(dir_); }

  Config loaded(const Flags& flags = {}) {
    auto config = load(flags, around_);
    EXPECT_TRUE(config) << (config ? "" : config.error().message);
    return config ? std::move(*config) : Config{};
  }
  std::string refused(const Flags& flags = {}) {
    auto config = load(flags, around_);
    EXPECT_FALSE(config);
    if (config) return {};
    EXPECT_EQ(config.error().code, Code::bad_request);
    return config.error().message;
  }
  /// The error of a settings file, without its path.
  std::string refused_file(const std::string& text) {
    write(data_ / "myelin.toml", text);
    std::string message = refused();
    std::string path = (data_ / "myelin.toml").string() + ":";
    for (std::size_t at = 0; (at = message.find(path, at)) != std::string::npos;)
      message.erase(at, path.size());
    return message;
  }

  fs::path dir_, data_;
  Surroundings around_;
};

}  // namespace

TEST_F(ConfigTest, DefaultsAreThoseOfTheDocumentation) {
  auto c = loaded();
  EXPECT_EQ(c.host, "127.0.0.1");
  EXPECT_EQ(c.port, 52425);
  EXPECT_EQ(c.data, data_);
  EXPECT_EQ(c.auth, Auth::token);
  EXPECT_EQ(c.isolation, Isolation::full);
  EXPECT_EQ(c.nonfinite, Nonfinite::null);
  EXPECT_TRUE(c.exec_allowed(true));
  EXPECT_FALSE(c.exec_allowed(false));
  EXPECT_EQ(c.cors_origins, (std::vector<std::string>{"http://localhost:*", "http://127.0.0.1:*"}));
  EXPECT_EQ(c.modules, "import nest");
  EXPECT_FALSE(c.token || c.token_file || c.file || c.worker_uid);
  EXPECT_EQ(c.python, "python3");
  EXPECT_EQ(c.sandbox_binary, dir_ / "project/build/myelin-sandbox");
  EXPECT_EQ(c.enter_library, dir_ / "project/build/libmyelin_enter.so");
  EXPECT_TRUE(c.desktop.empty());
  EXPECT_EQ(c.limits.body_mib, 64u);
  EXPECT_EQ(c.limits.json_depth, 64u);
  EXPECT_EQ(c.limits.connections, 4096u);
  EXPECT_EQ(c.limits.call_deadline_s, 0u);
  EXPECT_EQ(c.limits.idle_s, 7200u);
  EXPECT_EQ(c.limits.memory_per_session.of(1000), 600u);
  EXPECT_EQ(c.limits.memory_all.of(1000), 800u);
  EXPECT_EQ(c.limits.pids, 512u);
  EXPECT_EQ(c.limits.files, 1024u);
  EXPECT_EQ(c.limits.scratch.bytes, 2 * gib);
  EXPECT_EQ(c.limits.work_quota.bytes, 20 * gib);
  EXPECT_EQ(c.limits.queue, 64u);
  EXPECT_EQ(c.engines.size(), 4u);
  EXPECT_TRUE(c.notes.empty() && c.warnings.empty());
}

TEST_F(ConfigTest, RootHasItsOwnFolderAndWorkerUser) {
  around_.is_root = true;
  auto c = loaded();
  EXPECT_EQ(c.data, "/var/lib/myelin");
  ASSERT_TRUE(c.worker_uid);
  EXPECT_NE(*c.worker_uid, 0u);
  EXPECT_EQ(loaded({{"worker_uid", "1234"}}).worker_uid, 1234u);
  around_.is_root = false;
  c = loaded({{"worker_uid", "1234"}});
  EXPECT_FALSE(c.worker_uid);
  EXPECT_EQ(c.notes.size(), 1u);
}

TEST_F(ConfigTest, FlagBeforeEnvironmentBeforeFileBeforeDefault) {
  write(data_ / "myelin.toml", "port = 1001\nhost = '127.0.0.2'\n[limits]\ncall_deadline_s = 5\npids = 7\n");
  EXPECT_EQ(loaded().port, 1001);
  EXPECT_EQ(loaded().file, data_ / "myelin.toml");
  around_.environment = {{"NEST_SERVER_PORT", "1002"}, {"MYELIN_PORT", ""}};
  EXPECT_EQ(loaded().port, 1002);
  around_.environment["MYELIN_PORT"] = "1003";
  around_.environment["MYELIN_CALL_DEADLINE_S"] = "9";
  auto c = loaded();
  EXPECT_EQ(c.port, 1003);
  EXPECT_EQ(c.host, "127.0.0.2");
  EXPECT_EQ(c.limits.call_deadline_s, 9u);
  EXPECT_EQ(c.limits.pids, 7u);
  EXPECT_EQ(loaded({{"port", "1004"}}).port, 1004);
  EXPECT_EQ(loaded({{"port", "0"}}).port, 0);
}

TEST_F(ConfigTest, TheFileIsTheGivenOneElseThatOfDataElseTheSystems) {
  EXPECT_FALSE(loaded().file);
  write(around_.system_file, "port = 1\n");
  EXPECT_EQ(loaded().port, 1);
  write(data_ / "myelin.toml", "port = 2\n");
  EXPECT_EQ(loaded().port, 2);
  write(dir_ / "other" / "myelin.toml", "port = 3\n");
  EXPECT_EQ(loaded({{"data", (dir_ / "other").string()}}).port, 3);
  around_.environment["MYELIN_DATA"] = (dir_ / "other").string();
  EXPECT_EQ(loaded().port, 3);
  EXPECT_EQ(loaded().data, dir_ / "other");
  write(dir_ / "fourth.toml", "port = 4\n");
  around_.environment["MYELIN_CONFIG"] = (dir_ / "fourth.toml").string();
  EXPECT_EQ(loaded().port, 4);
  write(dir_ / "fifth.toml", "port = 5\n");
  EXPECT_EQ(loaded({{"config", (dir_ / "fifth.toml").string()}}).port, 5);
  EXPECT_NE(refused({{"config", (dir_ / "nope.toml").string()}}).find("there is no settings file"),
            std::string::npos);
}

TEST_F(ConfigTest, PathsStartAtTheirFileOrAtHome) {
  write(around_.system_file,
        "data = 'd'\ndesktop = '~/pages'\npython = 'env/bin/python'\n[engine.nest]\npython = 'python3.12'\n");
  auto c = loaded();
  EXPECT_EQ(c.data, dir_ / "etc" / "d");
  EXPECT_EQ(c.desktop, dir_ / "home" / "pages");
  EXPECT_EQ(c.python, (dir_ / "etc/env/bin/python").string());
  EXPECT_EQ(c.python_for("nest"), "python3.12");
  EXPECT_EQ(c.python_for("neuron"), c.python);
  EXPECT_EQ(loaded({{"data", "/x/../y"}}).data, "/y");
  EXPECT_EQ(refused_file("port = 1\ndata = '/elsewhere'\n"),
            "2: data cannot be set in the data folder's own file; use --data, MYELIN_DATA or --config");
}

TEST_F(ConfigTest, UnknownKeysAreNamedWithLineAndNeighbour) {
  EXPECT_EQ(refused_file("# a\n\nprot = 1\n"), "3: unknown key \"prot\"; did you mean \"port\"?");
  EXPECT_EQ(refused_file("[limits]\npid = 1\n"),
            "2: unknown key \"limits.pid\"; did you mean \"limits.pids\"?");
  EXPECT_EQ(refused_file("[engine.nset]\n"), "1: unknown key \"engine.nset\"; did you mean \"engine.nest\"? An engine of your own needs python = \"PATH\"");
  EXPECT_EQ(refused_file("[engine.nest]\npreloads = []\n"),
            "2: unknown key \"engine.nest.preloads\"; did you mean \"engine.nest.preload\"?");
  EXPECT_EQ(refused_file("[[mount]]\npath='/d'\nmod='ro'\n"),
            "3: unknown key \"mount.mod\"; did you mean \"mount.mode\"?");
  EXPECT_EQ(refused_file("[user.anna]\nquux = 1\n"), "2: unknown key \"user.anna.quux\"; known here: limits");
  EXPECT_EQ(refused_file("nest_face = true\n").substr(0, 26), "1: unknown key \"nest_face\"");
}

TEST_F(ConfigTest, WrongTypesAreNamed) {
  EXPECT_EQ(refused_file("port = 'abc'\n"), "1: port must be a whole number from 0 to 65535, not \"abc\"");
  EXPECT_EQ(refused_file("port = '80'\n"), "1: port must be a whole number from 0 to 65535, not \"80\"");
  EXPECT_EQ(refused_file("port = 65536\n"), "1: port must be a whole number from 0 to 65535, not 65536");
  EXPECT_EQ(refused_file("exec = 'yes'\n"), "1: exec must be true or false, not \"yes\"");
  EXPECT_EQ(refused_file("auth = 'off'\n"), "1: auth must be \"token\" or \"none\", not \"off\"");
  EXPECT_EQ(refused_file("cors_origins = [1]\n"), "1: cors_origins must be a list of texts");
  EXPECT_EQ(refused_file("limits = 3\n"), "1: limits must be a table: [limits]");
  EXPECT_EQ(refused_file("[limits]\nscratch = '10%'\n"),
            "2: limits.scratch must be a size like \"2GiB\", or a number of bytes, not \"10%\"");
  EXPECT_EQ(refused_file("[limits]\npids = -1\n"),
            "2: limits.pids must be a whole number from 1 to 4194304, not -1");
  EXPECT_EQ(refused_file("mount = 3\n"), "1: mount must be written as [[mount]]");
  EXPECT_EQ(refused_file("[[mount]]\nmode='ro'\n"), "1: a mount needs a path");
  EXPECT_EQ(refused_file("[engine.nest.limits]\nbody_mib = 3\n"),
            "2: engine.nest.limits.body_mib holds for the whole server; set it in [limits]");
  EXPECT_EQ(refused_file("[user.anna.limits]\njson_depth = 3\n"), "2: user.anna.limits.json_depth holds for the whole server; set it in [limits]");
  EXPECT_EQ(refused_file("[user.anna.limits]\nscratch = '1MiB'\n"),
            "2: user.anna.limits.scratch holds for the whole server or per engine; set it in [limits] or [engine.NAME.limits]");
  EXPECT_EQ(refused_file("[engine.nest.limits]\nwork_quota = '1MiB'\n"),
            "2: engine.nest.limits.work_quota holds for the whole server or per user; set it in [limits] or [user.NAME.limits]");
  EXPECT_EQ(refused_file("port = \n").substr(0, 2), "1:");
  EXPECT_EQ(refused_file("token = 'two words'\n").find("two words"),
            std::string::npos);  // a secret is not repeated
}

TEST_F(ConfigTest, AllMistakesAreToldAtOnce) {
  write(data_ / "myelin.toml", "port = 'x'\nfoo = 1\n");
  around_.environment["MYELIN_EXEC"] = "maybe";
  auto text = refused({{"nonfinite", "nan"}});
  auto path = (data_ / "myelin.toml").string();
  EXPECT_NE(text.find(path + ":1: port must be"), std::string::npos) << text;
  EXPECT_NE(text.find(path + ":2: unknown key \"foo\""), std::string::npos) << text;
  EXPECT_NE(text.find("MYELIN_EXEC must be true or false, not \"maybe\""), std::string::npos) << text;
  EXPECT_NE(text.find("--nonfinite must be \"null\" or \"bare\", not \"nan\""), std::string::npos) << text;
}

TEST_F(ConfigTest, PlainHttpForOthersMustBeAskedFor) {
  EXPECT_NE(refused({{"host", "0.0.0.0"}}).find("allow_plain_http"), std::string::npos);
  EXPECT_NE(refused_file("[face.nest]\nlisten = '0.0.0.0:1'\n").find("allow_plain_http"), std::string::npos);
  EXPECT_NE(refused({{"host", "0.0.0.0"}, {"public_url", "https://lab.example"}}).find("trusted_proxies"), std::string::npos);
  EXPECT_EQ(loaded({{"host", "0.0.0.0"}, {"public_url", "https://lab.example"}, {"trusted_proxies", "10.0.0.1"}}).host, "0.0.0.0");
  EXPECT_EQ(loaded({{"host", "0.0.0.0"}, {"tls_cert", "/c"}, {"tls_key", "/k"}}).host, "0.0.0.0");
  EXPECT_NE(refused({{"tls_cert", "/c"}}).find("set tls_key too"), std::string::npos);
  const char* remedy = "MYELIN_ALLOW_PLAIN_HTTP=true nest-server start";
  EXPECT_NE(refused({{"host", "0.0.0.0"}, {"nest_face", "true"}}).find(remedy), std::string::npos);
  EXPECT_EQ(refused({{"host", "0.0.0.0"}}).find(remedy), std::string::npos);
}

TEST_F(ConfigTest, NestServersVariablesWork) {
  around_.environment = {{"NEST_SERVER_HOST", "0.0.0.0"},
                         {"MYELIN_ALLOW_PLAIN_HTTP", "true"},
                         {"NEST_SERVER_PORT", "5000"},
                         {"NEST_SERVER_ACCESS_TOKEN", "abc"},
                         {"NEST_SERVER_MODULES", "import nest; import numpy as np"},
                         {"NEST_SERVER_CORS_ORIGINS", "http://a:*, https://b.example"},
                         {"NEST_SERVER_ENABLE_EXEC_CALL", "FALSE"},
                         {"NEST_SERVER_DISABLE_AUTH", ""}};
  auto c = loaded();
  EXPECT_EQ(c.host, "0.0.0.0");
  EXPECT_EQ(c.port, 5000);
  EXPECT_EQ(c.token, "abc");
  EXPECT_EQ(c.modules, "import nest; import numpy as np");
  EXPECT_EQ(c.cors_origins, (std::vector<std::string>{"http://a:*", "https://b.example"}));
  EXPECT_FALSE(c.exec_allowed(true));
  EXPECT_EQ(c.auth, Auth::token);
  EXPECT_TRUE(c.notes.empty());
  around_.environment["NEST_SERVER_ENABLE_EXEC_CALL"] = "T";
  EXPECT_TRUE(loaded().exec_allowed(false));
  around_.environment["MYELIN_EXEC"] = "off";
  EXPECT_FALSE(loaded().exec_allowed(true));
  around_.environment["NEST_SERVER_DISABLE_AUTH"] = "Yes";
  EXPECT_NE(refused().find("loopback"), std::string::npos);
  around_.environment["MYELIN_HOST"] = "127.0.0.1";
  EXPECT_EQ(loaded().auth, Auth::none);
}

TEST_F(ConfigTest, NestServersVariablesThatDoNothingAreNamed) {
  std::set<std::string> idle = {"DISABLE_RESTRICTION", "WORKERS", "STDOUT", "LOGFILE", "DAEMON",
                                "MPI_LOGGER_LEVEL",    "TIMEOUT"};
  for (const auto& name : idle) around_.environment["NEST_SERVER_" + name] = "1";
  around_.environment["NEST_SERVER_TYPO"] = "1";
  auto c = loaded();
  EXPECT_EQ(c.notes.size(), idle.size() + 1);
  for (const auto& name : idle) {
    bool named = false;
    for (const auto& note : c.notes) {
      named = named || note.rfind("NEST_SERVER_" + name + " is accepted and does nothing here: ", 0) == 0;
    }
    EXPECT_TRUE(named) << name;
  }
  EXPECT_EQ(c.limits.call_deadline_s, 0u);
}

TEST_F(ConfigTest, HostsAreComparedWithoutCase) {
  auto c = loaded({{"host", "Lab.Example"}, {"allow_plain_http", "true"}, {"allowed_hosts", "Lab.Example,B.example:8443,[::1]"}});
  EXPECT_EQ(c.host, "lab.example");
  EXPECT_EQ(c.allowed_hosts, (std::vector<std::string>{"lab.example", "b.example", "::1"}));
  EXPECT_NE(refused({{"allowed_hosts", "https://lab.example"}}).find("names, such as"), std::string::npos);
}

TEST_F(ConfigTest, NoAuthOnLoopbackOnly) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LocalHost"}) {
    EXPECT_EQ(loaded({{"auth", "none"}, {"host", host}}).auth, Auth::none) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "lab.example", "127.0.0.1.example", "10.0.0.1", "127.0.0.256"}) {
    EXPECT_NE(refused({{"auth", "none"}, {"host", host}}).find("loopback address only"), std::string::npos)
        << host;
  }
}

TEST_F(ConfigTest, LimitsOfEngineAndUser) {
  write(data_ / "myelin.toml", R"(
[limits]
pids = 100
memory_per_session = "50%"
[engine.nest]
preload = ["numpy"]
env = { OMP_NUM_THREADS = "2" }
limits = { pids = 200, memory_per_session = "8GiB" }
[user.anna.limits]
pids = 300
work_quota = "1TiB"
)");
  auto c = loaded();
  EXPECT_EQ(c.limits_for("neuron", "ben").pids, 100u);
  EXPECT_EQ(c.limits_for("nest", "ben").pids, 200u);
  EXPECT_EQ(c.limits_for("nest", "anna").pids, 300u);
  EXPECT_EQ(c.limits_for("nest", "anna").memory_per_session, (Amount{8 * gib, 0}));
  EXPECT_EQ(c.limits_for("neuron", "anna").memory_per_session.of(10), 5u);
  EXPECT_EQ(c.limits_for("neuron", "anna").work_quota.bytes, 1024 * gib);
  EXPECT_EQ(c.engines.at("nest").preload, std::vector<std::string>{"numpy"});
  EXPECT_EQ(c.engines.at("nest").env.at("OMP_NUM_THREADS"), "2");
}

TEST_F(ConfigTest, Mounts) {
  write(data_ / "myelin.toml", R"(
[[mount]]
path = "/data/lab/"
[[mount]]
path = "/tmp/x"
target = "/shared"
mode = "rw"
engines = ["nest"]
users = ["anna"]
)");
  auto c = loaded();
  ASSERT_EQ(c.mounts.size(), 2u);
  EXPECT_EQ(c.mounts[0].target, "/data/lab");
  EXPECT_FALSE(c.mounts[0].writable);
  EXPECT_EQ(c.mounts[1].path, "/tmp/x");
  EXPECT_EQ(c.mounts[1].target, "/shared");
  EXPECT_TRUE(c.mounts[1].writable);
  EXPECT_EQ(c.mounts[1].engines, std::vector<std::string>{"nest"});
  EXPECT_EQ(c.mounts[1].users, std::vector<std::string>{"anna"});
  EXPECT_NE(refused_file("[[mount]]\npath='/tmp/x'\n").find("give a target"), std::string::npos);
  for (const char* bad : {"/", "/proc/x", "shared", "/x/../sys", ""}) {
    EXPECT_NE(refused_file("[[mount]]\npath='/d'\ntarget='" + std::string(bad) + "'\n")
                  .find("mount.target must be"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(refused_file("[[mount]]\npath='/d'\nengines=['nset']\n").find("none called \"nset\""),
            std::string::npos);
}

TEST_F(ConfigTest, FacesHaveAddresses) {
  write(data_ / "myelin.toml", "[face.neuroapi]\nlisten = '127.0.0.1:5000'\njson = 'production'\n[face.nest]\nlisten = '[::1]:0'\n[functions]\npublic = false\n");
  auto c = loaded();
  ASSERT_TRUE(c.neuroapi_listen && c.nest_listen);
  EXPECT_EQ(c.neuroapi_listen->host, "127.0.0.1");
  EXPECT_EQ(c.neuroapi_listen->port, 5000);
  EXPECT_EQ(c.nest_listen->host, "::1");
  EXPECT_TRUE(c.neuroapi_compact);
  EXPECT_FALSE(c.functions.allow_public);
  for (const char* bad : {"5000", ":5000", "127.0.0.1:", "127.0.0.1:65536", "::1:5000", "a b:1"})
    EXPECT_NE(refused_file("[face.neuroapi]\nlisten = '" + std::string(bad) + "'\n").find("face.neuroapi.listen must be HOST:PORT"), std::string::npos) << bad;
  EXPECT_NE(refused_file("[face.neuropi]\nlisten = 'a:1'\n").find("did you mean \"face.neuroapi\""), std::string::npos);
  EXPECT_NE(refused_file("[face.nest]\njson = 'production'\n").find("unknown key \"face.nest.json\""), std::string::npos);
  EXPECT_NE(refused_file("[functions]\npublic = 'yes please'\n").find("functions.public must be"), std::string::npos);
  EXPECT_NE(refused_file("auth = 'none'\n[face.nest]\nlisten = '0.0.0.0:1'\n").find("loopback"), std::string::npos);
}

TEST_F(ConfigTest, AnOpenIdProviderIsReadAndItsSecretNeverShown) {
  const std::string needed = "[oidc]\nissuer = 'https://login.lab.example/realms/x'\nclient_id = 'myelin'\n";
  write(data_ / "myelin.toml", needed + "scopes = ['openid', 'email']\ncreate_users = false\ndefault_role = 'member'\nclient_secret_file = 'secret'\n");
  write(data_ / "secret", " hush\n");
  auto c = loaded();
  EXPECT_EQ(c.oidc.issuer, "https://login.lab.example/realms/x");
  EXPECT_EQ(c.oidc.name, "login.lab.example");
  EXPECT_EQ(c.oidc.client_secret, "hush");
  EXPECT_EQ(c.oidc.default_role, "member");
  EXPECT_EQ(c.oidc.scopes, (std::vector<std::string>{"openid", "email"}));
  EXPECT_FALSE(c.oidc.create_users);
  write(data_ / "myelin.toml", needed);
  EXPECT_EQ(loaded().oidc.default_role, "guest");
  around_.environment["MYELIN_OIDC_CLIENT_SECRET"] = "from outside";
  EXPECT_EQ(loaded().oidc.client_secret, "from outside");
  around_.environment.clear();

  auto says = [&](const std::string& more, const char* what) { EXPECT_NE(refused_file(needed + more).find(what), std::string::npos) << refused_file(needed + more); };
  says("scopes = ['email']\n", "oidc.scopes must be");
  says("default_role = 'admin'\n", "oidc.default_role must be \"guest\" or \"member\"");
  says("cleint_secret = 'x'\n", "did you mean \"oidc.client_secret\"");
  says("client_secret_file = '/nowhere/at/all'\n", "holds no secret");
  says("client_secret = 'x'\nclient_secret_file = 'secret'\n", "cannot both be set");
  EXPECT_EQ(refused_file(needed + "client_secret = ['hush']\n").find("hush"), std::string::npos);
  EXPECT_NE(refused_file("[oidc]\n").find("needs an issuer"), std::string::npos);
  for (const char* bad : {"http://login.lab.example", "login.lab.example", "https://login.lab.example?x", "http://127.0.0.1.evil.example", ""})
    EXPECT_NE(refused_file("[oidc]\nclient_id = 'x'\nissuer = '" + std::string(bad) + "'\n").find("oidc.issuer must be"), std::string::npos) << bad;
}

TEST_F(ConfigTest, TheEnvironmentBesideTheBuildIsFound) {
  auto env = dir_ / "project" / ".venv";
  write(env / "bin" / "python", "");
  write(env / "lib" / "python3.11" / "site-packages" / "nest_desktop" / "app" / "index.html", "");
  auto c = loaded();
  EXPECT_EQ(c.python, (env / "bin/python").string());
  EXPECT_EQ(c.desktop, env / "lib/python3.11/site-packages/nest_desktop/app");
  EXPECT_EQ(c.web, dir_ / "project" / "web" / "dist");
}

TEST_F(ConfigTest, EveryFlagSetsItsKey) {
  std::map<std::string, std::string> examples = {{"config", ""},
                                                 {"host", "h"},
                                                 {"port", "1"},
                                                 {"data", "/d"},
                                                 {"database", "postgresql://u:secret@h/d"},
                                                 {"token", "t"},
                                                 {"token_file", "/t"},
                                                 {"auth", "token"},
                                                 {"secret_key", "0123456789abcdef0123456789abcdef"},
                                                 {"admin_password", "correct horse battery"},
                                                 {"trusted_proxies", "10.0.0.1,10.0.0.2"},
                                                 {"tls_cert", "/c.pem"},
                                                 {"tls_key", "/k.pem"},
                                                 {"allow_plain_http", "true"},
                                                 {"socket", "false"},
                                                 {"isolation", "reduced"},
                                                 {"exec", "no"},
                                                 {"cors_origins", "*"},
                                                 {"allowed_hosts", "a,b"},
                                                 {"public_url", "https://x/y/"},
                                                 {"nonfinite", "bare"},
                                                 {"modules", "nest,numpy"},
                                                 {"worker_uid", "7"},
                                                 {"python", "python3"},
                                                 {"web", "/w"},
                                                 {"desktop", "/p"},
                                                 {"sandbox_binary", "/s"},
                                                 {"enter_library", "/e"},
                                                 {"nest_face", "true"}};
  auto flags = serve_flags();
  EXPECT_EQ(flags.size(), examples.size());
  Flags given;
  for (const auto& flag : flags) {
    EXPECT_EQ(flag.flag.find('_'), std::string::npos);
    ASSERT_TRUE(examples.count(flag.key)) << flag.key;
    if (flag.key != "config" && flag.key != "token") given[flag.key] = examples[flag.key];
  }
  auto c = loaded(given);
  EXPECT_EQ(c.isolation, Isolation::reduced);
  EXPECT_FALSE(c.exec_allowed(true));
  EXPECT_EQ(c.allowed_hosts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(c.public_url, "https://x/y");
  EXPECT_EQ(c.modules, "nest,numpy");
  EXPECT_TRUE(c.nest_face);
  EXPECT_FALSE(c.socket);
  EXPECT_EQ(c.token_file, "/t");
  EXPECT_EQ(c.database, "postgresql://u:secret@h/d");
}

TEST_F(ConfigTest, AWrongDatabaseIsNotRepeated) {
  const auto why = refused({{"database", "mysql://u:secret@h/d"}});
  EXPECT_NE(why.find("postgresql://"), std::string::npos) << why;
  EXPECT_EQ(why.find("secret"), std::string::npos) << why;
}

TEST(Amounts, AreReadStrictly) {
  EXPECT_EQ(parse_amount("60%")->of(200), 120u);
  EXPECT_EQ(parse_amount("512MiB")->bytes, 512 * mib);
  EXPECT_EQ(parse_amount("2 GiB")->bytes, 2 * gib);
  EXPECT_EQ(parse_amount("1.5GB")->bytes, 1500000000u);
  EXPECT_EQ(parse_amount("4096")->bytes, 4096u);
  EXPECT_EQ(parse_amount("0")->bytes, 0u);
  EXPECT_EQ(parse_amount("7")->of(3), 7u);
  for (const char* bad :
       {"", "GiB", "0%", "101%", "-1", "-0", "1.5", "inf", "nan", "1e3", "2gib", "9999999999TiB", "1%%"}) {
    EXPECT_FALSE(parse_amount(bad)) << bad;
  }
}

TEST_F(ConfigTest, TheTokenComesFromTheHighestPlaceThatNamesOne) {
  write(data_ / "myelin.toml", "token_file = 'own'\n");
  write(data_ / "own", "from-file\n");
  ::chmod((data_ / "own").c_str(), 0600);
  auto token = operator_token(loaded());
  ASSERT_TRUE(token) << token.error().message;
  EXPECT_EQ(token->token, "from-file");
  EXPECT_EQ(token->warning, "");
  ::chmod((data_ / "own").c_str(), 0640);
  EXPECT_NE(operator_token(loaded())->warning.find("can be read by others"), std::string::npos);
  around_.environment["NEST_SERVER_ACCESS_TOKEN"] = "from-nest";
  EXPECT_EQ(operator_token(loaded())->token, "from-nest");
  around_.environment["MYELIN_TOKEN"] = "from-env";
  EXPECT_EQ(operator_token(loaded())->token, "from-env");
  EXPECT_EQ(operator_token(loaded({{"token", "from-flag"}}))->token, "from-flag");
  EXPECT_EQ(operator_token(loaded({{"token_file", (data_ / "own").string()}}))->token, "from-file");
  EXPECT_EQ(operator_token(loaded({{"auth", "none"}}))->token, "");
  EXPECT_NE(refused({{"token", "a"}, {"token_file", "b"}}).find("cannot both"), std::string::npos);
  EXPECT_EQ(operator_token(loaded({{"token_file", "/nonexistent/x"}})).error().code, Code::bad_request);
  write(data_ / "own", "\n");
  EXPECT_FALSE(operator_token(loaded({{"token_file", (data_ / "own").string()}})));
}

TEST_F(ConfigTest, AReadableFileWithATokenIsWarnedOf) {
  write(data_ / "myelin.toml", "token = 'abc'\n");
  ::chmod((data_ / "myelin.toml").c_str(), 0644);
  EXPECT_EQ(loaded().warnings.size(), 1u);
  ::chmod((data_ / "myelin.toml").c_str(), 0600);
  EXPECT_TRUE(loaded().warnings.empty());
}

TEST_F(ConfigTest, TheTokenIsMadeOncePrivatelyByWhoeverIsFirst) {
  auto config = loaded();
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    pid_t pid = ::fork();
    if (pid == 0) {
      auto token = operator_token(config);
      if (token) std::ofstream(dir_ / ("child" + std::to_string(i))) << token->token;
      ::_exit(token ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  auto token = operator_token(config);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->token.size(), 48u);
  EXPECT_EQ(token->file, data_ / "token");
  EXPECT_EQ(token->warning, "");
  for (int i = 0; i < 8; ++i) {
    std::ifstream in(dir_ / ("child" + std::to_string(i)));
    std::string theirs;
    in >> theirs;
    EXPECT_EQ(theirs, token->token);
  }
  struct stat info {};
  ASSERT_EQ(::stat((data_ / "token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(data_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0077, 0u);
  EXPECT_EQ(std::distance(fs::directory_iterator(data_), fs::directory_iterator()), 1);
}

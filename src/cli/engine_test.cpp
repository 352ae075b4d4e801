#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "cli/engine_commands.hpp"
#include "cli/engine_files.hpp"
#include "cli/engine_options.hpp"
#include "cli/engine_try.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

class Engines : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "myelin-engine-XXXXXX").string();
    home = ::mkdtemp(pattern.data());
    data = home / "data";
    fs::create_directories(data / "engines");
    around.home = home;
    around.executable = home / "build" / "myelin";
    around.system_file = home / "none.toml";
  }
  void TearDown() override { fs::remove_all(home); }

  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  Result<Config> read() { return load({{"data", data.string()}}, around); }
  std::string refused() {
    auto config = read();
    return config ? "accepted" : config.error().message;
  }
  EngineRequest request(std::string name) {
    EngineRequest out;
    out.name = std::move(name);
    out.python = "/opt/env/bin/python";
    return out;
  }

  fs::path home, data;
  Surroundings around;
};

TEST_F(Engines, AreKeptInFilesOfTheirOwn) {
  auto wanted = request("brian-2.9_a");
  wanted.kind = "nest";
  wanted.preload = {"brian2,scipy.signal", "numpy"};
  wanted.environment = {"A=b=c \"d\"", "EMPTY="};
  auto engine = engine_from(wanted, *read());
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ(engine->preload, (std::vector<std::string>{"brian2", "scipy.signal", "numpy"}));
  fs::remove(data / "engines");
  ASSERT_TRUE(write_engine_file(data, wanted.name, *engine));
  auto config = read();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->engines.size(), 5u);
  EXPECT_EQ(config->engines.at(wanted.name), *engine);
  EXPECT_EQ(config->engines.at(wanted.name).env.at("A"), "b=c \"d\"");
  EXPECT_EQ(config->python_for(wanted.name), "/opt/env/bin/python");

  auto options = engine_options(*config, wanted.name, around.executable, true);
  EXPECT_TRUE(options.added);
  EXPECT_EQ(options.kind, "nest");
  EXPECT_FALSE(engine_options(*config, "nest", around.executable, true).added);

  EXPECT_NE(engine_from(wanted, *config).error().message.find("myelin engine remove brian-2.9_a"), std::string::npos);
  ASSERT_TRUE(remove_engine_file(data, wanted.name));
  EXPECT_EQ(remove_engine_file(data, wanted.name).error().code, Code::not_found);
  EXPECT_EQ(read()->engines.size(), 4u);
}

TEST_F(Engines, MayStandInTheSettingsToo) {
  write(data / "myelin.toml",
        "[engine.mine]\npython = 'env/bin/python'\nkind = 'neuron'\npreload = ['numpy']\n[engine.mine.limits]\npids = 9\n"
        "[[mount]]\npath = '/d'\nengines = ['mine']\n");
  auto config = read();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->python_for("mine"), (data / "env/bin/python").string());
  EXPECT_EQ(config->engines.at("mine").kind, "neuron");
  EXPECT_EQ(config->limits_for("mine", "").pids, 9u);
  EXPECT_EQ(engine_options(*config, "mine", around.executable, true).mounts.size(), 1u);
}

TEST_F(Engines, OfAFileTakeLimitsFromTheSettings) {
  write(data / "engines" / "mine.toml", "python = '~/env/bin/python'\n");
  write(data / "myelin.toml", "[engine.mine.limits]\npids = 9\n");
  auto config = read();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->python_for("mine"), (home / "env/bin/python").string());
  EXPECT_EQ(config->engines.at("mine").kind, "python");
  EXPECT_EQ(config->limits_for("mine", "").pids, 9u);
}

TEST_F(Engines, AreFoundWhereTheSettingsPutTheData) {
  write(home / "elsewhere" / "engines" / "mine.toml", "python = '/p'\n");
  write(around.system_file, "data = 'elsewhere'\n[engine.mine.limits]\npids = 9\n");
  around.environment = {};
  auto config = load({}, around);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->engines.count("mine"), 1u);
}

TEST_F(Engines, MistakesNameTheirFileAndLine) {
  auto file = data / "engines" / "mine.toml";
  write(file, "kind = 'python'\n");
  EXPECT_EQ(refused(), file.string() + ":1: an engine needs python = \"PATH\"");
  write(file, "python = '/p'\nkind = 'brian'\n");
  EXPECT_EQ(refused(), file.string() + ":2: kind must be \"nest\", \"neuron\", \"jaxley\" or \"python\", not \"brian\"");
  write(file, "python = '/p'\npreload = 'a b'\n");
  EXPECT_EQ(refused(), file.string() + ":2: preload must be a list of texts, not \"a b\"");
  write(file, "python = '/p'\npreload = ['a b']\n");
  EXPECT_EQ(refused(), file.string() + ":2: preload must be a list of modules, such as [\"numpy\"], not a list");
  write(file, "python = \n");
  EXPECT_NE(refused().find(file.string() + ":1:"), std::string::npos);
  fs::remove(file);
  write(data / "engines" / "nest.toml", "python = '/p'\n");
  EXPECT_NE(refused().find("nest came with the server"), std::string::npos);
  fs::remove(data / "engines" / "nest.toml");
  write(data / "engines" / "a b.toml", "python = '/p'\n");
  EXPECT_NE(refused().find("the name of an engine is"), std::string::npos);
  fs::remove(data / "engines" / "a b.toml");
  write(data / "engines" / ".new-x.toml", "half");  // being written
  write(data / "engines" / "notes.txt", "no engine");
  EXPECT_EQ(refused(), "accepted");
  write(data / "myelin.toml", "[engine.nest]\nkind = 'python'\n");
  EXPECT_NE(refused().find("engine.nest.kind must be \"nest\""), std::string::npos);
  write(data / "myelin.toml", "[engine.\"a b\"]\npython = '/p'\n");
  EXPECT_NE(refused().find("the name of an engine is"), std::string::npos);
}

TEST_F(Engines, RefuseWhatCannotBeMeant) {
  auto config = read();
  auto said = [&](EngineRequest wanted) {
    auto engine = engine_from(wanted, *config);
    return engine ? "accepted" : engine.error().message;
  };
  EXPECT_EQ(said(request("a")), "accepted");
  for (const char* name : {"", ".a", "-a", "_a", "a/b", "a b", "ü", "..", "a\n"})
    EXPECT_NE(said(request(name)).find("can't be an engine's name"), std::string::npos) << name;
  EXPECT_NE(said(request(std::string(65, 'a'))).find("can't be"), std::string::npos);
  EXPECT_NE(said(request("nest")).find("came with the server"), std::string::npos);
  auto wrong = request("a");
  wrong.kind = "brian";
  EXPECT_NE(said(wrong).find("--kind is"), std::string::npos);
  for (const char* modules : {"a,,b", "a b", "-c", "a/b", ".a", "a=b"}) {
    wrong = request("a");
    wrong.preload = {modules};
    EXPECT_NE(said(wrong).find("--preload takes modules"), std::string::npos) << modules;
  }
  for (const char* variable : {"A", "=b", "A=b\nc"}) {
    wrong = request("a");
    wrong.environment = {variable};
    EXPECT_NE(said(wrong).find("--env takes"), std::string::npos) << variable;
  }
}

class Interpreters : public Engines {
 protected:
  std::string said(const fs::path& python, std::optional<uid_t> uid = std::nullopt) {
    std::string all;
    for (const auto& finding : check_interpreter(python.string(), uid)) all += finding.text + " / " + finding.repair + "\n";
    return all;
  }
  bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
  fs::path environment() {
    fs::path env = home / "env";
    write(env / "bin" / "python3.11", "\177ELF");
    ::chmod((env / "bin" / "python3.11").c_str(), 0755);
    fs::create_symlink("python3.11", env / "bin" / "python");
    fs::create_directories(env / "lib" / "python3.11" / "site-packages");
    return env;
  }
};

TEST_F(Interpreters, ThatAreNone) {
  EXPECT_TRUE(holds(said(home / "none"), "there is no " + (home / "none").string()));
  EXPECT_TRUE(holds(said("no-such-python"), "in PATH"));
  EXPECT_TRUE(holds(said(home), "is a folder / give the interpreter in it: " + (home / "bin" / "python").string()));
  fs::create_symlink("gone", home / "link");
  EXPECT_TRUE(holds(said(home / "link"), "is a link to gone, which is not there"));
  write(home / "text", "x");
  EXPECT_TRUE(holds(said(home / "text"), "can't be executed / if it is an interpreter: chmod a+x"));
  write(home / "shim", "#!/bin/sh\nexec python3 \"$@\"\n");
  ::chmod((home / "shim").c_str(), 0755);
  EXPECT_TRUE(holds(said(home / "shim"), "sys.executable"));
}

TEST_F(Interpreters, BelowFoldersThatSessionsMayNotRead) {
  auto env = environment();
  auto python = env / "bin" / "python";
  constexpr uid_t other = 61525;
  EXPECT_EQ(said(python, other), "");  // what lies above does not matter: root binds it
  ::chmod((env / "lib" / "python3.11" / "site-packages").c_str(), 0700);
  EXPECT_TRUE(holds(said(python, other), (env / "lib/python3.11/site-packages").string() + " can't be read by sessions, which have the user id 61525"));
  ::chmod((env / "lib" / "python3.11" / "site-packages").c_str(), 0755);
  ::chmod(env.c_str(), 0700);
  EXPECT_TRUE(holds(said(python, other), "chmod a+rx " + env.string()));
  EXPECT_EQ(said(python, ::geteuid()), "");
  ::chmod((env / "bin" / "python3.11").c_str(), 0700);
  ::chmod(env.c_str(), 0755);
  EXPECT_TRUE(holds(said(python, other), "sessions may not execute"));
}

TEST_F(Interpreters, OfAUserWhoMayNotEnterTheirFolder) {
  auto env = environment();
  EXPECT_EQ(said(env / "bin" / "python"), "");
  if (::geteuid() == 0) GTEST_SKIP() << "root may enter every folder";
  ::chmod(env.c_str(), 0600);
  EXPECT_TRUE(holds(said(env / "bin" / "python"), "the folder " + env.string() + " on the way"));
  fs::create_symlink(env / "bin" / "python", home / "link");
  EXPECT_TRUE(holds(said(home / "link"), "the folder " + env.string() + " on the way"));
  ::chmod(env.c_str(), 0755);
}

}  // namespace
}  // namespace myelin::cli

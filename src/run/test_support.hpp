#pragma once
// A server's worth of Runs for tests: a loop in its thread, pools, a database, a folder.

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <thread>

#include "codec/test_support.hpp"
#include "os/memfd.hpp"
#include "run/runs.hpp"
#include "store/test_support.hpp"

namespace myelin::run::test {

namespace fs = std::filesystem;
using codec::Dtype;
using codec::test::raw;
using codec::test::RopeBuilder;

template <class T>
async::Task<void> deliver(async::Task<T> task, std::promise<T>* out) {
  try {
    out->set_value(co_await std::move(task));
  } catch (...) {
    out->set_exception(std::current_exception());
  }
}

inline std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_file(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

struct Server {
  explicit Server(fs::path folder, RunsOptions options = {}) {
    auto opened = store::open_state(store::test::place_in(folder));
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
    database.emplace(std::move(*opened));
    pool.emplace(loop, 2);
    database_pool.emplace(loop, 1);
    options.directory = folder / "runs";
    runs.emplace(loop, *pool, *database_pool, *database, options);
    thread = std::thread([this] { loop.run(); });
    auto ready = get(runs->open());
    EXPECT_TRUE(ready) << (ready ? "" : ready.error().message);
  }
  ~Server() {
    loop.post([this] { runs.reset(); });
    loop.post([this] { loop.stop(); });
    thread.join();
    pool.reset();
    database_pool.reset();
  }
  template <class T>
  T get(async::Task<T> task) {
    std::promise<T> out;
    auto held = std::make_shared<async::Task<T>>(std::move(task));
    loop.post([this, held, &out] { async::spawn(loop, deliver(std::move(*held), &out), "test"); });
    return out.get_future().get();
  }
  std::string read(Source& source) {
    std::string all, chunk;
    for (bool more = true; more;) {
      auto next = get(source.next(chunk));
      if (!next) return "error: " + next.error().message;
      EXPECT_LE(chunk.size(), 2U << 20);
      all += chunk;
      more = *next;
    }
    EXPECT_EQ(source.length().value_or(all.size()), all.size());
    return all;
  }

  async::Loop loop;
  std::optional<store::Database> database;
  std::optional<async::Pool> pool, database_pool;
  std::optional<Runs> runs;
  std::thread thread;
};

struct RunTest : testing::Test {
  fs::path folder;
  std::optional<Server> server;
  Asker me{"u1", false};

  RunTest() {
    std::string pattern = fs::temp_directory_path() / "myelin-run-XXXXXX";
    folder = ::mkdtemp(pattern.data());
  }
  ~RunTest() override {
    server.reset();
    fs::remove_all(folder);
  }
  void start(RunsOptions options = {}) {
    server.reset();
    server.emplace(folder, std::move(options));
  }
  Runs& runs() { return *server->runs; }

  static NewRun script(std::string source = "print(1)", std::string owner = "u1") {
    NewRun what;
    what.owner = std::move(owner);
    what.owner_name = "somebody";
    what.engine = "nest";
    what.session = "s_1";
    what.source = std::move(source);
    what.versions = R"({"nest":"3.9","python":"3.11"})";
    what.machine = R"({"cpu":"x"})";
    return what;
  }
  std::string begin(NewRun what = script()) {
    auto made = server->get(runs().create(std::move(what)));
    if (!made) {
      ADD_FAILURE() << made.error().message;
      return "";
    }
    auto started = server->get(runs().start(made->id));
    EXPECT_TRUE(started);
    return made->id;
  }
  static std::shared_ptr<os::UniqueFd> memory_of(const RopeBuilder& builder) {
    if (builder.memfd().empty()) return nullptr;
    auto fd = os::make_sealed_memfd("test", builder.memfd());
    EXPECT_TRUE(fd);
    return std::make_shared<os::UniqueFd>(std::move(*fd));
  }
  Result<Record> finish(const std::string& id, const RopeBuilder& builder,
                        std::optional<std::string> printed = std::nullopt) {
    return server->get(runs().finish(id, builder.rope(), memory_of(builder), std::move(printed)));
  }
  std::string done(const RopeBuilder& builder, NewRun what = script()) {
    const std::string id = begin(std::move(what));
    auto record = finish(id, builder);
    EXPECT_TRUE(record) << (record ? "" : record.error().message);
    return id;
  }
  Result<std::string> answer(const std::string& id, codec::Format format, codec::Nonfinite nonfinite) {
    const bool bare = nonfinite == codec::Nonfinite::bare || format == codec::Format::cbor;
    auto stored = server->get(runs().result(me, id, bare ? codec::Nonfinite::bare : codec::Nonfinite::null));
    if (!stored) return stored.take_error();
    return codec::test::encode(stored->rope, format, nonfinite, stored->reader, 100'000);
  }
  std::string get_dataset(const std::string& id, const std::string& name, DatasetFormat format) {
    auto got = server->get(runs().dataset(me, id, name, format));
    return got ? server->read(*got->source) : "error: " + got.error().message;
  }
  std::string get_export(const std::string& id, ExportFormat format) {
    auto got = server->get(runs().export_as(me, id, format));
    return got ? server->read(*got->source) : "error: " + got.error().message;
  }
  fs::path directory(const std::string& id, const std::string& owner = "u1") const {
    return folder / "runs" / owner / id;
  }
  std::string names(const std::string& id) {
    auto record = server->get(runs().get(me, id));
    std::string out;
    const auto list = boost::json::parse(record->datasets);
    for (const auto& d : list.as_array())
      out += std::string(d.at("name").as_string().c_str()) + ":" + d.at("dtype").as_string().c_str() +
             boost::json::serialize(d.at("shape")) + " ";
    return out;
  }
};

}  // namespace myelin::run::test

// Clients that go away while something is done for them, and streams that have nothing to say for a while.
#include <sys/socket.h>

#include <atomic>

#include "http/test_server.hpp"

namespace myelin::http {
namespace {

class HangUpHandler : public Handler {
 public:
  async::Event release, tick;
  std::atomic<int> handled{0}, noticed{0}, finished{0}, streams{0}, waiting{0};
  int ticks = 0;  // of the loop's thread

  bool handle_now(Request& request, Response& response) override {
    if (request.path != "/now") return false;
    response = reply(200, "text/plain", "now");
    return true;
  }
  Task<std::optional<Response>> admit(Request& request) override {
    if (request.path.starts_with("/watched")) request.gone = std::make_shared<async::Event>();
    co_return std::nullopt;
  }
  Task<Response> handle(Request request) override {
    ++handled;
    if (request.path == "/events") {
      Response response;
      response.headers.add("Content-Type", "text/event-stream");
      response.stream = std::make_unique<Events>(this);
      co_return response;
    }
    if (request.path == "/watched-quick") co_return reply(200, "text/plain", "quick " + request.body);
    if (request.path == "/watched") {
      const bool left = co_await request.gone->wait(1h);
      noticed += left ? 1 : 0;
      co_return reply(200, "text/plain", "noticed");
    }
    if (request.path == "/watched-wait") {
      const bool released = co_await release.wait(1h);
      noticed += request.gone->is_set() ? 1 : 0;
      finished += released ? 1 : 0;
      co_return reply(200, "text/plain", "released " + request.body);
    }
    const bool released = co_await release.wait(1h);
    finished += released ? 1 : 0;
    co_return reply(200, "text/plain", "released");
  }

 private:
  struct Events : BodySource {
    explicit Events(HangUpHandler* h) : handler(h) { ++handler->streams; }
    ~Events() override { --handler->streams; }
    Task<Result<bool>> next(std::string& chunk) override {
      if (std::exchange(first, false)) {
        chunk = ": hello\n\n";
        co_return true;
      }
      ++handler->waiting;
      const bool ticked = co_await handler->tick.wait();
      --handler->waiting;
      if (!ticked) co_await async::sleep_for(1h);  // cancelled: this throws
      chunk = "data: " + std::to_string(handler->ticks) + "\n\n";
      co_return true;
    }
    HangUpHandler* handler;
    bool first = true;
  };
};

class HangUpTest : public ServerTest<HangUpHandler> {
 protected:
  void tick() {
    on_loop([this] {
      ++handler.ticks;
      handler.tick.pulse();
    });
  }
  /// Reads until the input holds `what`.
  static bool reads(Client& client, std::string_view what) {
    while (client.input.find(what) == std::string::npos)
      if (!client.fill(10s)) return false;
    return true;
  }
  static void reset(Client& client) {
    const linger now{1, 0};
    ::setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(std::exchange(client.fd, -1));
  }
};

TEST_F(HangUpTest, IsNoticedWhileTheHandlerWorks) {
  start();
  for (int i = 0; i < 20; ++i) {
    auto client = std::make_unique<Client>(port);
    client->send(i % 2 ? get("/watched") : post("/watched", "body"));
    ASSERT_TRUE(eventually([&] { return handler.handled == i + 1; }));
    EXPECT_EQ(handler.noticed, i);
    if (i % 4 == 0) reset(*client);
    client.reset();
    EXPECT_TRUE(eventually([&] { return handler.noticed == i + 1; }));
  }
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
}

TEST_F(HangUpTest, BeforeTheHandlerStarts) {
  start();
  for (int i = 0; i < 50; ++i) {
    Client client(port);
    client.send(post("/watched", "body"));
  }
  EXPECT_TRUE(eventually([&] { return handler.noticed == handler.handled && metrics().open == 0; }));
}

TEST_F(HangUpTest, AClientThatOnlyStopsSendingGetsItsAnswer) {
  start();
  Client client(port);
  client.send(get("/watched"));
  ::shutdown(client.fd, SHUT_WR);
  EXPECT_EQ(client.receive().body, "noticed");
  EXPECT_TRUE(client.closes());
  Client plain(port);
  plain.send(get("/wait"));
  ::shutdown(plain.fd, SHUT_WR);
  ASSERT_TRUE(eventually([&] { return handler.handled == 2; }));
  on_loop([this] { handler.release.set(); });
  EXPECT_EQ(plain.receive().body, "released");
}

TEST_F(HangUpTest, NothingIsLostOfTheNextRequest) {
  start();
  Client client(port);
  client.send(post("/watched-wait", "1"));
  ASSERT_TRUE(eventually([&] { return handler.handled == 1; }));
  std::this_thread::sleep_for(50ms);
  const std::string large(300'000, 'x');  // more than a sweep's time and any buffer of ours
  std::thread sender(
      [&] { client.send(post("/watched-quick", "2") + get("/now") + post("/watched-wait", large)); });
  std::this_thread::sleep_for(100ms);
  on_loop([this] { handler.release.set(); });
  EXPECT_EQ(client.receive().body, "released 1");
  EXPECT_EQ(client.receive().body, "quick 2");
  EXPECT_EQ(client.receive().body, "now");
  EXPECT_EQ(client.receive().body, "released " + large);
  sender.join();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.ask(post("/watched-quick", "again")).body, "quick again");
  EXPECT_EQ(handler.noticed, 0);
}

TEST_F(HangUpTest, IsNoticedBehindANextRequest) {
  start();
  for (const bool resets : {false, true}) {
    const int before = handler.noticed;
    Client client(port);
    client.send(get("/watched") + get("/now"));
    ASSERT_TRUE(eventually([&] { return handler.handled == before + 1; }));
    client.send(get("/now"));
    std::this_thread::sleep_for(50ms);
    if (resets)
      reset(client);
    else
      ::close(std::exchange(client.fd, -1));
    EXPECT_TRUE(eventually([&] { return handler.noticed == before + 1; }));
  }
}

TEST_F(HangUpTest, AHandlerThatDidNotAskGoesOn) {
  start();
  {
    Client client(port);
    client.send(get("/wait"));
    ASSERT_TRUE(eventually([&] { return handler.handled == 1; }));
  }
  std::this_thread::sleep_for(50ms);
  on_loop([this] { handler.release.set(); });
  EXPECT_TRUE(eventually([&] { return handler.finished == 1; }));
}

TEST_F(HangUpTest, AStreamMayBeSilent) {
  Limits limits;
  limits.write_timeout = limits.idle_timeout = limits.header_timeout = limits.body_window = 400ms;
  start(limits);
  Client client(port);
  client.send(get("/events"));
  EXPECT_TRUE(reads(client, ": hello\n\n"));
  for (int i = 1; i < 4; ++i) {
    ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
    std::this_thread::sleep_for(500ms);
    tick();
    EXPECT_TRUE(
        reads(client, "data: " + std::to_string(i) + "\n\n\r\n"));  // though the next one is waited for
  }
  EXPECT_EQ(metrics().timeouts, 0u);
}

TEST_F(HangUpTest, AStreamThatNobodyReadsEnds) {
  start();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<Client>(port));
    clients.back()->send(get("/events") + (i % 3 == 0 ? get("/now") : ""));
    EXPECT_TRUE(reads(*clients.back(), ": hello\n\n"));
  }
  ASSERT_TRUE(eventually([&] { return handler.waiting == 100; }));
  for (int i = 0; i < 100; ++i)
    if (i % 2 == 0) reset(*clients[static_cast<std::size_t>(i)]);
  EXPECT_TRUE(eventually([&] { return handler.streams == 50; }));
  tick();
  for (int i = 1; i < 100; i += 2) EXPECT_TRUE(reads(*clients[static_cast<std::size_t>(i)], "data: 1\n\n"));
  clients.clear();
  EXPECT_TRUE(eventually([&] { return handler.streams == 0 && metrics().open == 0; }));
  EXPECT_EQ(metrics().active, 0u);
}

TEST_F(HangUpTest, StopEndsSilentStreams) {
  start();
  Client client(port);
  client.send(get("/events"));
  EXPECT_TRUE(reads(client, ": hello\n\n"));
  ASSERT_TRUE(eventually([&] { return handler.waiting == 1; }));
  auto done = stop_async(50ms);
  EXPECT_EQ(done.wait_for(10s), std::future_status::ready);
  EXPECT_EQ(handler.streams, 0);
}

}  // namespace
}  // namespace myelin::http

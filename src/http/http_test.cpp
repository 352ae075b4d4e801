// The server against real sockets on the loopback: what HTTP asks for, and what bad clients do.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <random>
#include <thread>

#include "http/test_server.hpp"
#include "http/text.hpp"

namespace myelin::http {
namespace {

/// A body in `count` pieces of `size` bytes, with the ways to go wrong.
struct Pieces : BodySource {
  int count = 3;
  std::size_t size = 5;
  int fail_at = -1, throw_at = -1;
  std::optional<std::uint64_t> announced;
  std::atomic<int>* produced = nullptr;
  int at = 0;

  Task<Result<bool>> next(std::string& chunk) override {
    co_await async::sleep_for(0ms);
    if (at == fail_at) co_return Error{Code::worker_lost, "the worker died", {}};
    if (at == throw_at) throw std::runtime_error("expected in this test");
    if (at == count) co_return false;
    chunk.assign(size, static_cast<char>('a' + at % 26));
    ++at;
    if (produced) ++*produced;
    co_return true;
  }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return announced; }
};

class TestHandler : public Handler {
 public:
  std::atomic<int> admitted{0}, handled{0}, produced{0}, cancelled{0}, hidden{0};
  async::Event release;

  bool handle_now(Request& request, Response& response) override {
    if (request.path == "/hidden") ++hidden;
    if (request.path == "/throw-now") throw std::runtime_error("expected in this test");
    if (request.path == "/large") {
      response = reply(200, "text/plain", std::string(16 << 20, 'L'));
      return true;
    }
    if (request.path != "/now") return false;
    response = reply(200, "text/plain", "now " + request.method);
    response.headers.add("X-From", request.remote_address);
    return true;
  }

  Task<std::optional<Response>> admit(Request& request) override {
    ++admitted;
    if (request.path == "/refused") co_return problem(401, "unauthorized", "no");
    if (request.path == "/throw-admit") throw std::runtime_error("expected in this test");
    if (request.path == "/small") request.body_limit = 10;
    request.context = request.path + "!";
    co_return std::nullopt;
  }

  Task<Response> handle(Request request) override {
    ++handled;
    if (std::any_cast<std::string>(request.context) != request.path + "!")
      throw std::logic_error("context lost");
    const auto path = request.path;
    if (path == "/throw") throw std::runtime_error("expected in this test");
    if (path == "/throw-odd") throw 42;
    if (path == "/wait") {
      struct Count {
        std::atomic<int>* n;
        bool done = false;
        ~Count() { *n += done ? 0 : 1; }
      } count{&cancelled};
      const bool released = co_await release.wait(1h);
      if (!released) co_await async::sleep_for(1h);  // cancelled: this throws
      count.done = true;
      co_return reply(200, "text/plain", "released");
    }
    if (path == "/split") {
      auto response = reply(200, "text/plain", "x");
      response.headers.add("X-Bad", "a\r\nSet-Cookie: evil=1");
      co_return response;
    }
    if (path == "/split-stream" || path.starts_with("/stream")) {
      Response response;
      auto pieces = std::make_unique<Pieces>();
      pieces->produced = &produced;
      if (path == "/split-stream") response.headers.add("X\n", "a");
      if (path == "/stream-fail") pieces->fail_at = 2;
      if (path == "/stream-fail-first") pieces->fail_at = 0;
      if (path == "/stream-throw") pieces->throw_at = 2;
      if (path == "/stream-length") pieces->announced = 15;
      if (path == "/stream-short") pieces->announced = 16;
      if (path == "/stream-long") pieces->announced = 14;
      if (path == "/stream-big") {
        pieces->count = 2000;
        pieces->size = 64 * 1024;
      }
      if (path == "/stream-empty") pieces->count = 0;
      response.stream = std::move(pieces);
      co_return response;
    }
    if (path == "/status") co_return reply(99, "text/plain", "x");
    if (path == "/204") {
      Response response;
      response.status = 204;
      response.body = "must not leave";
      co_return response;
    }
    if (path == "/own-fields") {
      auto response = reply(200, "text/plain", "body");
      response.headers.add("Content-Length", "1");
      response.headers.add("Transfer-Encoding", "chunked");
      response.headers.add("Connection", "x");
      co_return response;
    }
    if (path == "/close") {
      auto response = reply(200, "text/plain", "bye");
      response.close = true;
      co_return response;
    }
    co_return reply(200, "text/plain",
                    request.method + " " + std::to_string(request.body.size()) + " " + request.body);
  }
};

using HttpTest = ServerTest<TestHandler>;

TEST_F(HttpTest, Answers) {
  start();
  Client client(port);
  auto answer = client.ask(get("/now"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "now GET");
  EXPECT_FALSE(answer.has("Server: "));
  EXPECT_TRUE(answer.has("X-From: 127.0.0.1\r\n"));
  EXPECT_TRUE(answer.has("Date: "));
  EXPECT_EQ(client.ask(get("/hello")).body, "GET 0 ");
  EXPECT_EQ(client.ask(post("/echo", "hello")).body, "POST 5 hello");
  EXPECT_EQ(client.ask(get("/x", "MKCALENDAR")).body, "MKCALENDAR 0 ");
  EXPECT_EQ(client.ask(get("http://h/now")).body, "now GET");
  EXPECT_EQ(client.ask("\r\n\r\n" + get("/now")).status, 200);
  answer = client.ask(get("/own-fields"));
  EXPECT_EQ(answer.body, "body");
  EXPECT_FALSE(answer.has("Transfer-Encoding"));
  EXPECT_FALSE(answer.has("Connection"));
  const auto m = metrics();
  EXPECT_EQ(m.requests, 7u);
  EXPECT_EQ(m.open, 1u);
  EXPECT_GT(m.bytes_out, 100u);
}

TEST_F(HttpTest, HeadHasTheSameFieldsAndNoBody) {
  start();
  Client client(port);
  for (const char* path : {"/now", "/hello", "/stream", "/stream-length"}) {
    const auto full = client.ask(get(path)).head;
    auto head = client.ask(get(path, "HEAD"), true).head;
    const auto without_date_and_length = [](std::string text) {
      for (const char* name : {"Date: ", "Content-Length: "})
        if (const auto at = text.find(name); at != std::string::npos)
          text.erase(at, text.find("\r\n", at) - at);
      return text;
    };
    EXPECT_EQ(without_date_and_length(full), without_date_and_length(head)) << path;
    EXPECT_EQ(full.find("Content-Length") == std::string::npos,
              head.find("Content-Length") == std::string::npos);
  }
  const auto after = client.ask(get("/204"));
  EXPECT_EQ(after.status, 204);
  EXPECT_FALSE(after.has("Content-Length"));
  EXPECT_EQ(client.ask(get("/now")).body, "now GET");
}

TEST_F(HttpTest, Pipelining) {
  start();
  Client client(port);
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += get("/now") + post("/echo", std::to_string(i)) + get("/stream") + get("/hello");
  client.send(all);
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(client.receive().body, "now GET");
    ASSERT_EQ(client.receive().body,
              "POST " + std::to_string(std::to_string(i).size()) + " " + std::to_string(i));
    ASSERT_EQ(client.receive().body, "aaaaabbbbbccccc");
    ASSERT_EQ(client.receive().body, "GET 0 ");
  }
}

TEST_F(HttpTest, ByteByByte) {
  start();
  Client client(port);
  const auto text =
      post("/echo", "abc") + get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "2\r\nde\r\n0\r\n\r\n";
  for (const char c : text) {
    client.send(std::string_view(&c, 1));
    std::this_thread::sleep_for(100us);
  }
  EXPECT_EQ(client.receive().body, "POST 3 abc");
  EXPECT_EQ(client.receive().body, "POST 2 de");
}

TEST_F(HttpTest, OldVersion) {
  start();
  {
    Client client(port);
    const auto answer = client.ask("GET /now HTTP/1.0\r\n\r\n");
    EXPECT_EQ(answer.body, "now GET");
    EXPECT_TRUE(answer.has("Connection: close\r\n"));
    EXPECT_TRUE(client.closes());
  }
  Client client(port);
  const auto answer = client.ask("GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(answer.has("Connection: keep-alive\r\n"));
  const auto streamed = client.ask("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(streamed.complete);
  EXPECT_FALSE(streamed.has("chunked"));
  EXPECT_EQ(streamed.body, "aaaaabbbbbccccc");
}

TEST_F(HttpTest, RefusesMalformed) {
  start();
  const struct {
    std::string text;
    int status;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: a\n\n", 400},
      {get("/", "GET", "A: b\r\n c\r\n"), 400},
      {get("/", "POST", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {get("/", "POST", "Content-Length: 1\r\nContent-Length: 1\r\n") + "x", 400},
      {get("/", "POST", "Content-Length: x\r\n"), 400},
      {get("/", "POST", "Transfer-Encoding: gzip, chunked\r\n"), 501},
      {get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "x\r\n", 400},
      {get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "1\nx\r\n", 400},
      {get("/%00"), 400},
      {"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
      {"\x16\x03\x01\x02\x01", 400},
      {get("/", "CONNECT"), 0},
  };
  for (const auto& one : cases) {
    if (one.status == 0) continue;
    Client client(port);
    const auto answer = client.ask(one.text + get("/now"));  // what follows must not be read as a request
    EXPECT_EQ(answer.status, one.status) << one.text;
    EXPECT_TRUE(answer.has("Connection: close\r\n")) << one.text;
    EXPECT_EQ(client.read_all(), "") << one.text;
    EXPECT_FALSE(client.timed_out) << one.text;
  }
  EXPECT_EQ(handler.handled, 0);
}

TEST_F(HttpTest, NothingIsSmuggled) {
  start();
  const std::string chunked = "Transfer-Encoding: chunked\r\n", length = "Content-Length: 5\r\n";
  const std::string whole = "5\r\nhello\r\n0\r\n\r\n", hidden = get("/hidden");
  const auto with = [](std::string_view fields, std::string_view body) {
    return get("/echo", "POST", fields) + std::string(body);
  };
  // Each is refused, and what follows is never taken for a request.
  for (const auto& text : {
           with(length + chunked, whole),
           with(chunked + length, whole),
           with(chunked + chunked, whole),
           with("Transfer-Encoding: chunked, identity\r\n", whole),
           with("Transfer-Encoding: identity\r\n" + length, "hello"),
           with("Transfer-Encoding: xchunked\r\n", whole),
           with("Transfer-Encoding:\x0b"
                "chunked\r\n",
                whole),
           with("Transfer-Encoding : chunked\r\n", whole),
           with(" Transfer-Encoding: chunked\r\n", whole),
           with("X: y\r\n Transfer-Encoding: chunked\r\n", whole),
           with("X: y\n" + chunked, whole),
           with("X: y\rTransfer-Encoding: chunked\r\n", whole),
           with("Transfer-Encoding: chunked\r\n\r\n" + length, ""),  // the second is the (bad) body
           with(length + length, "hello"),
           with("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
           with("Content-Length: 5, 5\r\n", "hello"),
           with("Content-Length: +5\r\n", "hello"),
           with("Content-Length: 0x5\r\n", "hello"),
           with("Content-Length: 5 5\r\n", "hello"),
           with("Content-Length: 18446744073709551621\r\n", "hello"),
           with("Content-Length : 5\r\n", "hello"),
           with(chunked, "5;a\nb\r\nhello\r\n0\r\n\r\n"),
           with(chunked, "5\nhello\r\n0\r\n\r\n"),
           with(chunked, "5\r\nhello0\r\n\r\n"),
           with(chunked, "0x5\r\nhello\r\n0\r\n\r\n"),
           with(chunked, "+5\r\nhello\r\n0\r\n\r\n"),
           with(chunked, "10000000000000005\r\nhello\r\n0\r\n\r\n"),
           with(chunked, "5\r\nhello\r\n0\r\n\n"),
           with("Host: other\r\n", ""),
           "POST /echo HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n" + chunked + "\r\n" + whole,
           "POST /echo HTTP/1.1\r\nHost: h\r\n" + length + "\n\nhello",
       }) {
    Client client(port);
    client.send(text + hidden);
    const auto answer = client.receive();
    EXPECT_TRUE(answer.status == 400 || answer.status == 413 || answer.status == 501) << answer.status << "\n"
                                                                                      << text;
    EXPECT_EQ(client.read_all(), "") << text;
    EXPECT_FALSE(client.timed_out) << text;
  }
  EXPECT_EQ(handler.hidden, 0);
  // A body that looks like a request is a body.
  Client client(port);
  EXPECT_EQ(client.ask(post("/echo", hidden)).body, "POST " + std::to_string(hidden.size()) + " " + hidden);
  EXPECT_EQ(client.ask(get("/now")).status, 200);
  EXPECT_EQ(handler.hidden, 0);
}

TEST_F(HttpTest, SlowPeersOfEveryKindStallNobody) {
  Limits limits;
  limits.header_timeout = limits.body_window = limits.write_timeout = 500ms;
  limits.linger = 30s;  // so that each is still there to read its answer
  start(limits);
  const auto head = get("/now", "GET", "X: " + std::string(4000, 'x'));
  std::vector<std::unique_ptr<Client>> heads, bodies, readers;
  for (int i = 0; i < 100; ++i) {
    heads.push_back(std::make_unique<Client>(port));
    heads.back()->send(head.substr(0, 1));
    bodies.push_back(std::make_unique<Client>(port));
    bodies.back()->send(i % 2 ? get("/echo", "POST", "Content-Length: 100000\r\n")
                              : get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "ffff\r\n");
    if (i % 4 == 0) {
      readers.push_back(std::make_unique<Client>(port, 4096));
      readers.back()->send(get(i % 8 ? "/stream-big" : "/large"));
    }
  }
  std::atomic<bool> done = false;
  std::thread drip([&] {
    for (std::size_t at = 1; !done && at < head.size(); ++at) {
      for (auto& client : heads) client->send(head.substr(at, 1));
      for (auto& client : bodies) client->send("1");
      std::this_thread::sleep_for(20ms);
    }
  });
  int served = 0;
  const bool ended = eventually([&] {
    served += once(get("/now")).status == 200 && once(post("/echo", "x")).status == 200 ? 1 : 0;
    return metrics().timeouts >= 225;
  });
  done = true;
  drip.join();
  EXPECT_TRUE(ended);
  EXPECT_GT(served, 0);
  for (auto& client : heads) EXPECT_EQ(client->receive().status, 408);
  for (auto& client : bodies) EXPECT_EQ(client->receive().status, 408);
  heads.clear();
  bodies.clear();
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
  expect_alive();
}

TEST_F(HttpTest, HeaderLimits) {
  start();
  EXPECT_EQ(once(get("/now", "GET", "X: " + std::string(8000, 'x') + "\r\n")).status, 200);
  EXPECT_EQ(once(get("/now", "GET", "X: " + std::string(8192, 'x') + "\r\n")).status, 431);
  EXPECT_EQ(once("GET /" + std::string(20000, 'x')).status, 431);
  std::string fields;
  for (int i = 0; i < 99; ++i) fields += "A: b\r\n";
  EXPECT_EQ(once(get("/now", "GET", fields)).status, 200);
  EXPECT_EQ(once(get("/now", "GET", fields + "A: b\r\n")).status, 431);
}

TEST_F(HttpTest, BodyLimits) {
  Limits limits;
  limits.body_bytes = 1000;
  start(limits);
  EXPECT_EQ(once(post("/echo", std::string(1000, 'x'))).status, 200);
  auto answer = once(get("/echo", "POST", "Content-Length: 1001\r\n"));  // refused before a byte of it
  EXPECT_EQ(answer.status, 413);
  EXPECT_TRUE(answer.has("Connection: close\r\n"));
  EXPECT_EQ(once(get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "3e9\r\n").status, 413);
  EXPECT_EQ(once(post("/small", "0123456789")).status, 200);
  EXPECT_EQ(once(post("/small", "0123456789a")).status, 413);
  // A client that is still sending gets the answer nevertheless.
  Client client(port);
  client.send(get("/echo", "POST", "Content-Length: 5000000\r\n"));
  const std::string much(200000, 'x');
  for (int i = 0; i < 5; ++i) client.send(much);
  EXPECT_EQ(client.receive().status, 413);
}

TEST_F(HttpTest, RefusedByAdmitWithoutReading) {
  start();
  {
    Client client(port);
    const auto answer = client.ask(get("/refused", "POST", "Content-Length: 1000000\r\n"));
    EXPECT_EQ(answer.status, 401);
    EXPECT_TRUE(answer.has("Connection: close\r\n"));
    EXPECT_TRUE(client.closes());
  }
  Client client(port);
  EXPECT_EQ(client.ask(post("/refused", "small")).status, 401);  // all here: skipped, the connection goes on
  EXPECT_EQ(client.ask(get("/now")).body, "now GET");
  EXPECT_EQ(handler.handled, 0);
}

TEST_F(HttpTest, ExpectContinue) {
  start();
  Client client(port);
  auto answer = client.ask(get("/echo", "POST", "Content-Length: 3\r\nExpect: 100-continue\r\n"));
  EXPECT_EQ(answer.status, 100);
  EXPECT_EQ(client.ask("abc").body, "POST 3 abc");
  EXPECT_EQ(client.ask(post("/echo", "abc", "Expect: 100-continue\r\n")).body, "POST 3 abc");  // sent anyway
  EXPECT_EQ(client.ask(get("/refused", "POST", "Content-Length: 3\r\nExpect: 100-continue\r\n")).status, 401);
}

TEST_F(HttpTest, LargeBodies) {
  start();
  std::string body(20 << 20, '\0');
  std::mt19937 random(1);
  for (auto& c : body) c = static_cast<char>('a' + random() % 26);
  Client client(port);
  std::thread sender([&] { client.send(post("/echo", body)); });
  auto answer = client.receive();
  sender.join();
  EXPECT_TRUE(answer.body == "POST " + std::to_string(body.size()) + " " + body);
  std::string chunked = get("/echo", "POST", "Transfer-Encoding: chunked\r\n");
  for (std::size_t at = 0, size = 1; at < body.size(); at += size, size = 1 + random() % 100000) {
    const auto piece = body.substr(at, size);
    char line[32];
    std::snprintf(line, sizeof line, "%zx\r\n", piece.size());
    chunked += line + piece + "\r\n";
  }
  chunked += "0\r\n\r\n";
  std::thread again([&] { client.send(chunked); });
  answer = client.receive();
  again.join();
  EXPECT_TRUE(answer.body == "POST " + std::to_string(body.size()) + " " + body);
  EXPECT_EQ(client.ask(get("/now")).status, 200);
}

TEST_F(HttpTest, HandlerErrorsAreAnswered) {
  start();
  Client client(port);
  for (const char* path :
       {"/throw", "/throw-odd", "/throw-admit", "/throw-now", "/split", "/split-stream", "/status"}) {
    const auto answer = client.ask(get(path));
    EXPECT_EQ(answer.status, 500) << path;
    EXPECT_TRUE(answer.has("application/problem+json")) << path;
    EXPECT_FALSE(answer.has("evil")) << path;
    EXPECT_EQ(answer.body.find("expected"), std::string::npos) << path;
  }
  EXPECT_EQ(client.ask(post("/throw", "body")).status, 500);
  EXPECT_EQ(client.ask(get("/now")).status, 200);
  EXPECT_EQ(client.ask(get("/close")).body, "bye");
  EXPECT_TRUE(client.closes());
}

TEST_F(HttpTest, Streams) {
  start();
  Client client(port);
  auto answer = client.ask(get("/stream"));
  EXPECT_TRUE(answer.has("Transfer-Encoding: chunked\r\n"));
  EXPECT_EQ(answer.body, "aaaaabbbbbccccc");
  EXPECT_EQ(client.ask(get("/stream-empty")).body, "");
  answer = client.ask(get("/stream-length"));
  EXPECT_TRUE(answer.has("Content-Length: 15\r\n"));
  EXPECT_EQ(answer.body, "aaaaabbbbbccccc");
  answer = client.ask(get("/stream-fail-first"));  // nothing has left yet: a proper answer
  EXPECT_TRUE(answer.complete);
  EXPECT_EQ(answer.status, 410);
  EXPECT_EQ(client.ask(get("/now")).status, 200);
}

TEST_F(HttpTest, BrokenStreamsAreNoticed) {
  start();
  for (const char* path : {"/stream-fail", "/stream-throw", "/stream-short", "/stream-long"}) {
    Client client(port);
    const auto answer = client.ask(get(path));
    EXPECT_FALSE(answer.complete) << path;
    EXPECT_FALSE(client.timed_out) << path;
  }
  Client old(port);
  old.ask("GET /stream-fail HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(old.reset);
}

TEST_F(HttpTest, StreamsWaitForTheReader) {
  Limits limits;
  limits.write_timeout = 300ms;
  start(limits);
  Client client(port, 4096);
  client.send(get("/stream-big"));
  EXPECT_TRUE(eventually([&] { return metrics().timeouts == 1; }));
  EXPECT_LT(handler.produced, 500);  // of 2000: what the kernel's buffers hold
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
}

TEST_F(HttpTest, SlowReadersAreClosed) {
  Limits limits;
  limits.write_timeout = 2s;
  start(limits);
  Client client(port, 4096);
  client.send(get("/large") + get("/large"));
  EXPECT_TRUE(eventually([&] { return metrics().timeouts == 1; }));
  // One that reads slowly but steadily is served.
  Client steady(port, 65536);
  steady.send(get("/large"));
  for (int i = 0; i < 40; ++i) {
    steady.fill();
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(steady.receive().body.size(), 16u << 20);
}

TEST_F(HttpTest, SlowHeadsAreRefused) {
  Limits limits;
  limits.header_timeout = 1s;
  start(limits);
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 200; ++i) slow.push_back(std::make_unique<Client>(port));
  std::atomic<bool> done = false;
  std::thread drip([&] {
    const auto text = get("/now", "GET", "X: " + std::string(4000, 'x'));
    for (std::size_t at = 0; !done && at < text.size(); ++at) {
      for (auto& client : slow) client->send(text.substr(at, 1));
      std::this_thread::sleep_for(20ms);
    }
  });
  expect_alive();
  EXPECT_TRUE(eventually([&] { return metrics().timeouts >= 200; }));
  done = true;
  drip.join();
  for (auto& client : slow) {
    EXPECT_EQ(client->receive().status, 408);
    EXPECT_TRUE(client->closes());
  }
  Client silent(port);
  EXPECT_TRUE(silent.closes());
  EXPECT_EQ(silent.input, "");
}

TEST_F(HttpTest, IdleConnectionsAreClosed) {
  Limits limits;
  limits.idle_timeout = 100ms;
  start(limits);
  Client client(port);
  EXPECT_EQ(client.ask(get("/now")).status, 200);
  EXPECT_TRUE(client.closes());
  EXPECT_EQ(client.input, "");
}

TEST_F(HttpTest, SlowBodiesAreRefused) {
  Limits limits;
  limits.body_window = 2s;
  limits.body_rate = 10000;
  start(limits);
  Client client(port);
  client.send(get("/echo", "POST", "Content-Length: 100000\r\n") +
              std::string(50000, 'x'));  // fast, then stalls
  EXPECT_EQ(client.receive().status, 408);
  EXPECT_TRUE(client.closes());
  Client steady(port);
  steady.send(get("/echo", "POST", "Content-Length: 40000\r\n"));
  for (int i = 0; i < 40; ++i) {
    steady.send(std::string(1000, 'x'));
    std::this_thread::sleep_for(15ms);
  }
  EXPECT_EQ(steady.receive().status, 200);
}

TEST_F(HttpTest, BodiesTogetherAreBounded) {
  Limits limits;
  limits.buffered_bytes = 100000;
  start(limits);
  Client holder(port), other(port);
  holder.send(get("/echo", "POST", "Content-Length: 90001\r\n") + std::string(90000, 'x'));
  EXPECT_TRUE(eventually([&] { return metrics().buffered == 90000; }));
  const auto refused = other.ask(post("/echo", std::string(20000, 'x')));
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.has("Retry-After: "));
  EXPECT_EQ(holder.ask("x").status, 200);
  EXPECT_EQ(once(post("/echo", std::string(20000, 'x'))).status, 200);
}

TEST_F(HttpTest, ConnectionsAreBounded) {
  Limits limits;
  limits.connections = 10;
  start(limits);
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 10; ++i) {
    held.push_back(std::make_unique<Client>(port));
    EXPECT_EQ(held.back()->ask(get("/now")).status, 200);
  }
  const auto refused = once(get("/now"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.has("Retry-After: "));
  for (int i = 0; i < 300; ++i) Client flood(port);
  EXPECT_EQ(held[0]->ask(get("/now")).status, 200);
  held.clear();
  EXPECT_TRUE(eventually([&] { return once(get("/now")).status == 200; }));
}

TEST_F(HttpTest, ConnectionsOfOneAddressAreBounded) {
  Limits limits;
  limits.connections_per_address = 2;
  start(limits);
  Client a(port), b(port);
  EXPECT_EQ(a.ask(get("/now")).status, 200);
  EXPECT_EQ(b.ask(get("/now")).status, 200);
  EXPECT_EQ(once(get("/now")).status, 429);
}

TEST_F(HttpTest, RunsOutOfDescriptorsAndRecovers) {
  start();
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  // The clients' ends are made first, then no descriptor is left for the server's.
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(std::make_unique<Client>());
  const int next = ::dup(0);
  ::close(next);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next);
  ::setrlimit(RLIMIT_NOFILE, &tight);
  for (auto& client : clients) {
    client->connect(port);
    client->send(get("/now"));
  }
  const bool starved = !clients.back()->fill(150ms);
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(starved);
  for (auto& client : clients) EXPECT_EQ(client->receive().status, 200);
}

TEST_F(HttpTest, ConnectionFloodAndResets) {
  start();
  for (int i = 0; i < 1000; ++i) {
    Client client(port);
    if (i % 3 == 0) client.send(get(i % 2 ? "/stream-big" : "/large"));
    if (i % 5 == 0) client.send(get("/echo", "POST", "Content-Length: 1000\r\n") + "x");
    const linger now{1, 0};
    if (i % 4 == 0) ::setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
  EXPECT_EQ(metrics().buffered, 0u);
  expect_alive();
}

TEST_F(HttpTest, RandomBytesNeverHurt) {
  start();
  auto random = random_numbers();
  for (int i = 0; i < 300; ++i) {
    auto text = post("/echo", "hello") + get("/stream") +
                get("/echo", "POST", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n" +
                get("/now");
    for (int k = 0; k < 3; ++k) text[random() % text.size()] = static_cast<char>(random());
    Client client(port);
    client.send(text);
    ::shutdown(client.fd, SHUT_WR);
    client.read_all();
    ASSERT_FALSE(client.timed_out) << text;
  }
  expect_alive();
}

TEST_F(HttpTest, StopLetsRequestsFinish) {
  start();
  Client waiting(port), idle(port);
  EXPECT_EQ(idle.ask(get("/now")).status, 200);
  waiting.send(get("/wait"));
  ASSERT_TRUE(eventually([&] { return handler.handled == 1; }));
  auto done = stop_async(5s);
  EXPECT_TRUE(idle.closes());
  EXPECT_TRUE(on_loop([this] { return server->stopping(); }));
  Client late(port);
  EXPECT_FALSE(late.connected);
  EXPECT_EQ(done.wait_for(50ms), std::future_status::timeout);
  on_loop([this] { handler.release.set(); });
  const auto answer = waiting.receive();
  EXPECT_EQ(answer.body, "released");
  EXPECT_TRUE(answer.has("Connection: close\r\n"));
  EXPECT_TRUE(waiting.closes());
  EXPECT_EQ(done.wait_for(5s), std::future_status::ready);
  EXPECT_EQ(handler.cancelled, 0);
}

TEST_F(HttpTest, StopCutsOffAfterTheGrace) {
  start();
  std::vector<std::unique_ptr<Client>> waiting;
  for (int i = 0; i < 100; ++i) {
    waiting.push_back(std::make_unique<Client>(port));
    waiting.back()->send(get("/wait"));
  }
  Client uploading(port), head(port), streaming(port, 4096);
  uploading.send(get("/echo", "POST", "Content-Length: 1000\r\n") + "x");
  head.send("GET / HT");
  streaming.send(get("/stream-big"));
  ASSERT_TRUE(eventually([&] { return handler.handled == 101 && metrics().buffered == 1; }));
  auto done = stop_async(100ms);
  EXPECT_EQ(done.wait_for(5s), std::future_status::ready);
  for (auto& client : waiting) {
    EXPECT_EQ(client->receive().status, 503);
    EXPECT_TRUE(client->closes());
  }
  EXPECT_EQ(uploading.receive().status, 503);
  EXPECT_TRUE(head.closes());
  EXPECT_FALSE(streaming.receive().complete);
  EXPECT_EQ(handler.cancelled, 100);
}

TEST_F(HttpTest, UnixSocket) {
  start();
  std::string folder = (std::filesystem::temp_directory_path() / "myelin-http-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto path = folder + "/s";
  const auto listen = [&] { return on_loop([&] { return server->listen_unix(path, 0600).ok(); }); };
  ASSERT_TRUE(listen());
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  {
    Client client(path);
    const auto answer = client.ask(get("/now"));
    EXPECT_EQ(answer.body, "now GET");
    EXPECT_TRUE(answer.has("X-From: unix\r\n"));
  }
  EXPECT_FALSE(listen());  // a live server is there
  stop(1s);
  EXPECT_NE(::stat(path.c_str(), &info), 0);  // removed
  // A stale one, as after a crash, is replaced; a file is not.
  const int stale = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(stale);
  async::Loop second_loop;
  Server second(second_loop, {}, handler);
  EXPECT_TRUE(second.listen_unix(path, 0600).ok());
  EXPECT_FALSE(second.listen_unix(folder, 0600).ok());
  EXPECT_FALSE(second.listen_unix(folder + std::string(200, 'x'), 0600).ok());
  EXPECT_TRUE(second.listen("LOCALHOST", 0).ok());  // as a name, looked up
  const auto unknown = second.listen("no such name", 0);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("no such name: "), std::string::npos);
  const auto taken = second.listen("127.0.0.1", 1);
  (void)taken;
  std::filesystem::remove_all(folder);
}

TEST_F(HttpTest, PortInUseIsAConflict) {
  async::Loop other;
  Server first(other, {}, handler), second(other, {}, handler);
  const auto address = first.listen("127.0.0.1", 0);
  ASSERT_TRUE(address.ok());
  const auto again = second.listen("127.0.0.1", address->port);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Code::conflict);
}

TEST_F(HttpTest, ServerMayDieWithoutStop) {
  start();
  Client waiting(port), idle(port);
  EXPECT_EQ(idle.ask(get("/now")).status, 200);
  waiting.send(get("/wait"));
  ASSERT_TRUE(eventually([&] { return handler.handled == 1; }));
  loop->stop();
  thread.join();
  server.reset();
  loop.reset();
  EXPECT_TRUE(idle.closes());
  EXPECT_EQ(waiting.receive().status, 503);
}

}  // namespace
}  // namespace myelin::http

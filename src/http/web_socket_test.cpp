// WebSockets against a real server on the loopback: the handshake, the cases of RFC 6455 that the well-known
// Autobahn suite checks (framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, limits; no
// compression), and what bad or absent peers do.
#include "http/web_socket.hpp"

#include <netinet/tcp.h>
#include <sys/resource.h>

#include <atomic>
#include <random>

#include "http/test_server.hpp"
#include "http/text.hpp"
#include "http/web_socket_frame.hpp"

namespace myelin::http {
namespace {

class SocketHandler : public Handler {
 public:
  async::Event release;
  std::atomic<int> started{0}, ended{0}, closed{0}, received{0}, sent{0}, refused{0}, cancelled{0};

  bool handle_now(Request& request, Response& response) override {
    if (request.path != "/now") return false;
    response = reply(200, "text/plain", "now");
    return true;
  }
  Task<std::optional<Response>> admit(Request&) override { co_return std::nullopt; }
  Task<Response> handle(Request request) override {
    Response response;
    response.headers.add("X-Kept", "yes");
    response.headers.add("Content-Type", "text/plain");
    response.subprotocol = query_value(request.query, "subprotocol").value_or("");
    const auto path = request.path;
    response.web_socket = [this, path](std::shared_ptr<WebSocket> socket) { return run(this, path, socket); };
    co_return response;
  }

 private:
  struct Run {
    explicit Run(SocketHandler* h) : handler(h) { ++handler->started; }
    ~Run() { ++handler->ended; }
    SocketHandler* handler;
  };
  static Task<void> echo(SocketHandler* self, std::shared_ptr<WebSocket> socket) {
    for (;;) {
      auto message = co_await socket->receive();
      if (!message || !*message) break;
      ++self->received;
      auto back = std::move(**message);
      const auto sent = co_await socket->send(std::move(back));
      if (!sent) break;
      ++self->sent;
    }
    EXPECT_FALSE(socket->open());
    ++self->closed;
  }
  static Task<void> run(SocketHandler* self, std::string path, std::shared_ptr<WebSocket> socket) {
    const Run counted(self);
    if (path == "/return") co_return;
    if (path == "/throw") throw std::runtime_error("expected in this test");
    if (path == "/header") {
      Message message{false, std::string(socket->headers().get("X-Asked"))};
      (void)co_await socket->send(std::move(message));
    }
    if (path == "/close") socket->close(4001, "as told");
    if (path == "/close-odd") socket->close(1006, "");
    if (path == "/close-long") socket->close(4002, std::string(122, 'x') + "\xc3\xa9");
    if (path == "/queue-and-close") {
      for (int i = 0; i < 100; ++i) EXPECT_TRUE(socket->try_send({false, std::to_string(i)}));
      socket->close(1000, "");
      EXPECT_FALSE(socket->open());
      EXPECT_FALSE(socket->try_send({false, "late"}));
      const auto late = co_await socket->receive();
      EXPECT_FALSE(late->has_value());
    }
    if (path.starts_with("/hold")) (void)co_await self->release.wait();
    if (path == "/hold-and-return") co_return;
    if (path == "/fill") {  // as much as may wait, at once
      while (socket->try_send({true, std::string(100'000, 'f')})) ++self->sent;
      ++self->refused;
      (void)co_await self->release.wait();
    }
    if (path == "/pour") {  // as much as the peer takes
      for (;;) {
        Message message{true, std::string(100'000, 'p')};
        const auto sent = co_await socket->send(std::move(message));
        if (!sent) break;
        ++self->sent;
      }
      ++self->closed;
    }
    if (path == "/deaf") {  // does not notice that the socket is gone
      struct Count {
        std::atomic<int>* n;
        ~Count() { ++*n; }
      } const count{&self->cancelled};
      for (;;) co_await async::sleep_for(1h);
    }
    co_await echo(self, socket);
  }
};

constexpr std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";  // of RFC 6455, with the accept key below
constexpr std::string_view accepted = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

std::string handshake(std::string_view path = "/echo", std::string_view more = "") {
  return get(path, "GET",
             "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: "
             "13\r\nSec-WebSocket-Key: " +
                 std::string(key) + "\r\n" + std::string(more));
}

enum : int { continuation = 0, text = 1, binary = 2, close_op = 8, ping = 9, pong = 10, unfinished = 0x100 };

/// A client's frame; `opcode | unfinished`: without FIN.
std::string frame(int opcode, std::string_view payload = "", int reserved = 0, bool masked = true) {
  std::string out;
  out += static_cast<char>(((opcode & unfinished) != 0 ? 0 : 0x80) | reserved << 4 | (opcode & 15));
  const int mask_bit = masked ? 0x80 : 0;
  const auto size = payload.size();
  if (size < 126) {
    out += static_cast<char>(mask_bit | static_cast<int>(size));
  } else {
    const bool wide = size > 0xffff;
    out += static_cast<char>(mask_bit | (wide ? 127 : 126));
    for (int shift = wide ? 56 : 8; shift >= 0; shift -= 8) out += static_cast<char>(size >> shift & 255);
  }
  if (!masked) return out += payload;
  const char mask[] = {'\x37', '\x00', '\x21', '\xfd'};
  out.append(mask, 4);
  const auto start = out.size();
  out += payload;
  for (std::size_t i = 0; i < size; ++i) out[start + i] = static_cast<char>(out[start + i] ^ mask[i & 3]);
  return out;
}

std::string close_frame(int code, std::string_view reason = "") {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 255)};
  return frame(close_op, payload + std::string(reason));
}

struct Frame {
  int opcode = -1;
  std::string payload;
  [[nodiscard]] int code() const {
    if (opcode != close_op || payload.size() < 2) return 0;
    return static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1]);
  }
};

class Peer : public Client {
 public:
  explicit Peer(std::uint16_t port, std::string_view path = "/echo", int receive_buffer = 0)
      : Client(port, receive_buffer) {
    const int yes = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    send(handshake(path));
    answer = receive_head();
  }
  /// The next frame; opcode -1 at the end.
  Frame next(milliseconds wait = 20s) {
    const auto need = [&](std::size_t n) {
      while (input.size() < n)
        if (!fill(wait)) return false;
      return true;
    };
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(input[i]); };
    if (!need(2)) return {};
    EXPECT_EQ(byte(0) & 0xf0, 0x80);  // FIN, nothing reserved
    EXPECT_EQ(byte(1) & 0x80, 0);     // a server does not mask
    std::size_t size = byte(1), head = 2;
    if (size >= 126) {
      head = size == 126 ? 4 : 10;
      if (!need(head)) return {};
      size = 0;
      for (std::size_t i = 2; i < head; ++i) size = size << 8 | byte(i);
    }
    const int opcode = byte(0) & 15;
    if (!need(head + size)) return {};
    Frame out{opcode, input.substr(head, size)};
    input.erase(0, head + size);
    return out;
  }
  /// What is sent back for a text.
  std::string echo(std::string_view message) {
    send(frame(text, message));
    return next().payload;
  }
  /// Frames until the end, and that the server then closes.
  std::vector<Frame> rest() {
    std::vector<Frame> out;
    for (auto one = next(); one.opcode >= 0; one = next()) out.push_back(std::move(one));
    EXPECT_FALSE(timed_out);
    return out;
  }
  Answer answer;
};

class WebSocketTest : public ServerTest<SocketHandler> {
 protected:
  /// Whatever happened, others are served.
  void expect_well() {
    Peer peer(port);
    EXPECT_EQ(peer.echo("still here"), "still here");
    EXPECT_EQ(once(get("/now")).status, 200);
  }
};

TEST(WebSocketFrame, AcceptKey) {
  EXPECT_EQ(accept_key(key), accepted);
  EXPECT_EQ(accept_key(std::string(24, 'x')).size(), 28u);
}

TEST(WebSocketFrame, ClosePayload) {
  EXPECT_EQ(close_payload(1000, "bye"),
            "\x03\xe8"
            "bye");
  EXPECT_EQ(close_payload(1005, "bye"), "");
  EXPECT_EQ(close_payload(1000, "\xff"), "\x03\xe8");
  EXPECT_EQ(close_payload(1000, std::string(122, 'x') + "\xc3\xa9").size(), 2 + 122u);
  EXPECT_EQ(close_payload(1000, std::string(121, 'x') + "\xc3\xa9").size(), 2 + 123u);
}

/// The straight definition, to hold the checker to.
bool is_utf8(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const auto at = [&](std::size_t k) {
      return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[k]));
    };
    const auto first = at(i);
    const std::size_t length = first < 0x80       ? 1
                               : first >> 5 == 6  ? 2
                               : first >> 4 == 14 ? 3
                               : first >> 3 == 30 ? 4
                                                  : 0;
    if (length == 0 || i + length > bytes.size()) return false;
    auto value = length == 1 ? first : first & (0xffu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      if (at(i + k) >> 6 != 2) return false;
      value = value << 6 | (at(i + k) & 63);
    }
    constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

TEST(WebSocketFrame, Utf8AgreesWithTheDefinition) {
  std::mt19937 random(7);
  const auto check = [&](const std::string& bytes) {
    Utf8 whole, split;
    const bool expected = is_utf8(bytes);
    EXPECT_EQ(whole.feed(bytes) && whole.complete(), expected) << testing::PrintToString(bytes);
    bool fine = true;
    for (const char c : bytes) fine = fine && split.feed(std::string_view(&c, 1));
    EXPECT_EQ(fine && split.complete(), expected) << testing::PrintToString(bytes);
  };
  for (int a = 0x78; a < 256; ++a) {
    check({static_cast<char>(a)});
    for (int b = 0x78; b < 256; ++b) check({static_cast<char>(a), static_cast<char>(b)});
  }
  const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                 0xbf, 0xc0, 0xc2, 0xed, 0xf4, 0xff};
  for (int a = 0xc0; a < 256; ++a)
    for (const auto b : edges)
      for (const auto c : edges)
        for (const auto d : edges) {
          const std::string tail{static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                                 static_cast<char>(d)};
          check(tail);
          check(std::string(random() % 20, 'x') + tail + "0123456789");
        }
}

// ---- handshake

TEST_F(WebSocketTest, Handshake) {
  start();
  Peer peer(port, "/echo");
  EXPECT_EQ(peer.answer.status, 101);
  EXPECT_TRUE(peer.answer.has("HTTP/1.1 101 Switching Protocols\r\n"));
  EXPECT_TRUE(peer.answer.has("Sec-WebSocket-Accept: " + std::string(accepted) + "\r\n"));
  EXPECT_TRUE(peer.answer.has("Upgrade: websocket\r\n"));
  EXPECT_TRUE(peer.answer.has("Connection: Upgrade\r\n"));
  EXPECT_TRUE(peer.answer.has("X-Kept: yes\r\n"));
  EXPECT_FALSE(peer.answer.has("Content-"));
  EXPECT_FALSE(peer.answer.has("Sec-WebSocket-Protocol"));
  EXPECT_EQ(peer.echo("hello"), "hello");
  EXPECT_EQ(metrics().web_sockets, 1u);
  EXPECT_EQ(metrics().open, 1u);
  EXPECT_EQ(metrics().active, 0u);

  Client client(port);
  client.send(handshake("/header", "X-Asked: of the handshake\r\n"));
  EXPECT_TRUE(client.fill());
  EXPECT_TRUE(eventually([&] { return client.input.ends_with("of the handshake") || !client.fill(10ms); }));
}

TEST_F(WebSocketTest, Subprotocol) {
  start();
  Client offers(port), silent(port);
  offers.send(handshake("/echo?subprotocol=myelin", "Sec-WebSocket-Protocol: other, myelin\r\n"));
  EXPECT_TRUE(offers.fill());
  EXPECT_NE(offers.input.find("Sec-WebSocket-Protocol: myelin\r\n"), std::string::npos);
  silent.send(handshake("/echo?subprotocol=myelin"));
  EXPECT_TRUE(silent.fill());
  EXPECT_EQ(silent.input.find("Sec-WebSocket-Protocol"), std::string::npos);
}

TEST_F(WebSocketTest, HandshakeMayFollowRequestsAndCarryFrames) {
  start();
  Peer peer(port, "/now");
  EXPECT_EQ(peer.answer.status, 200);
  peer.input.clear();
  peer.send(get("/now") + handshake() + frame(text, "early") + frame(binary, "birds"));
  EXPECT_EQ(peer.receive_head().status, 200);
  peer.input.erase(0, 3);
  EXPECT_EQ(peer.receive_head().status, 101);
  EXPECT_EQ(peer.next().payload, "early");
  EXPECT_EQ(peer.next().payload, "birds");
}

TEST_F(WebSocketTest, RefusesOtherHandshakes) {
  start();
  const auto without = [](std::string_view part, std::string_view instead = "") {
    auto out = handshake();
    return out.replace(out.find(part), part.size(), instead);
  };
  const std::string key_line = "Sec-WebSocket-Key: " + std::string(key) + "\r\n";
  for (const auto& request :
       {get("/echo"), without("Upgrade: WebSocket\r\n"), without(", Upgrade"),
        without("WebSocket\r\n", "h2c\r\n"), without("Sec-WebSocket-Version: 13\r\n"),
        without("13\r\n", "8\r\n"), without("13\r\n", "13, 8\r\n"),
        without("13\r\n", "13\r\nSec-WebSocket-Version: 13\r\n"), without(key_line),
        without("\r\n\r\n", "\r\n" + key_line + "\r\n"), without(key, "short"),
        without(key, std::string(24, '=')), without(key, "dGhlIHNhbXBsZSBub25jZQ!="), without("GET", "PUT"),
        without("Host: h\r\n", "Host: h\r\nContent-Length: 1\r\n") + "x"}) {
    Client client(port);
    const auto answer = client.ask(request);
    EXPECT_EQ(answer.status, 426) << request;
    EXPECT_TRUE(answer.has("Upgrade: websocket\r\n")) << request;
    EXPECT_TRUE(answer.has("Sec-WebSocket-Version: 13\r\n")) << request;
    EXPECT_TRUE(answer.has("Connection: Upgrade\r\n")) << request;
    EXPECT_NE(answer.body.find("this address speaks WebSocket"), std::string::npos);
    EXPECT_EQ(client.ask(get("/now")).status, 200) << request;  // the connection goes on
  }
  Client old(port);
  EXPECT_EQ(old.ask(without("HTTP/1.1", "HTTP/1.0")).status, 426);
  EXPECT_EQ(handler.started, 0);
  EXPECT_EQ(metrics().web_sockets, 0u);
}

TEST_F(WebSocketTest, HaveABoundOfTheirOwn) {
  Limits limits;
  limits.connections = 4;
  limits.web_sockets = 20;
  start(limits);
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 20; ++i) {
    peers.push_back(std::make_unique<Peer>(port));
    EXPECT_EQ(peers.back()->answer.status, 101);
  }
  Peer more(port);
  EXPECT_EQ(more.answer.status, 503);
  EXPECT_TRUE(more.answer.has("Retry-After: "));
  EXPECT_EQ(once(get("/now")).status, 200);  // requests are not locked out
  for (auto& peer : peers) EXPECT_EQ(peer->echo("x"), "x");
  peers.clear();
  EXPECT_TRUE(eventually([&] { return metrics().web_sockets == 0; }));
  expect_well();
}

// ---- the protocol's cases

/// What is sent, and what must come back: these frames, then a Close with this code. 0: the connection stays,
/// and the client closes it with 1000. -1: a Close without a code.
struct Case {
  const char* name;
  std::string sent;
  std::vector<Frame> expected;
  int code = 0;
};

class WebSocketCases : public WebSocketTest {
 protected:
  void run(const Case& one, std::size_t piece) {
    SCOPED_TRACE(std::string(one.name) + " in pieces of " + std::to_string(piece));
    Peer peer(port);
    ASSERT_EQ(peer.answer.status, 101);
    for (std::size_t at = 0; at < one.sent.size(); at += piece)
      if (!peer.send(std::string_view(one.sent).substr(at, piece))) break;
    // Pongs may overtake echoes, and a Close after an error may overtake both.
    std::vector<Frame> data, pongs, expected_data, expected_pongs;
    for (const auto& frame : one.expected)
      (frame.opcode == pong ? expected_pongs : expected_data).push_back(frame);
    Frame last;
    while (one.code != 0 || data.size() < expected_data.size() || pongs.size() < expected_pongs.size()) {
      last = peer.next();
      if (last.opcode < 0 || last.opcode == close_op) break;
      (last.opcode == pong ? pongs : data).push_back(last);
    }
    const auto same = [](const std::vector<Frame>& got, const std::vector<Frame>& expected,
                         bool may_be_fewer) {
      ASSERT_LE(got.size(), expected.size());
      if (!may_be_fewer) {
        ASSERT_EQ(got.size(), expected.size());
      }
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].opcode, expected[i].opcode);
        EXPECT_TRUE(got[i].payload == expected[i].payload);
      }
    };
    const bool failed = one.code == 1002 || one.code == 1007 || one.code == 1009;
    same(data, expected_data, failed);
    same(pongs, expected_pongs, failed);
    if (one.code == 0) {
      peer.send(close_frame(1000));
      last = peer.next();
    }
    ASSERT_EQ(last.opcode, static_cast<int>(close_op));
    if (one.code < 0)
      EXPECT_EQ(last.payload, "");
    else
      EXPECT_EQ(last.code(), one.code == 0 ? 1000 : one.code);
    EXPECT_TRUE(peer.rest().empty());  // nothing after a Close, and the server closes
  }
  void run_all(const std::vector<Case>& cases) {
    start();
    for (const auto& one : cases) {
      run(one, std::string::npos / 2);
      if (one.sent.size() < 70'000) run(one, 997);
      if (one.sent.size() < 1000) run(one, 1);
    }
    expect_well();
  }
};

TEST_F(WebSocketCases, Framing) {
  std::vector<Case> cases;
  for (const std::size_t size : {0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20})
    for (const int opcode : {text, binary}) {
      std::string payload(size, '*');
      if (opcode == binary)
        for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 131);
      cases.push_back({"message", frame(opcode, payload), {{opcode, payload}}});
    }
  cases.push_back({"two", frame(text, "a") + frame(binary, "b"), {{text, "a"}, {binary, "b"}}});
  cases.push_back({"unmasked", frame(text, "a", 0, false), {}, 1002});
  cases.push_back({"unmasked, empty", frame(text, "", 0, false), {}, 1002});
  const std::string mask(4, '\0');
  cases.push_back({"16 bits for a short length", std::string("\x81\xfe\x00\x7d", 4) + mask, {}, 1002});
  cases.push_back(
      {"64 bits for a short length", std::string("\x81\xff\0\0\0\0\0\0\xff\xff", 10) + mask, {}, 1002});
  cases.push_back(
      {"a length beyond 63 bits", std::string("\x82\xff\x80\0\0\0\0\0\0\0", 10) + mask, {}, 1002});
  run_all(cases);
}

TEST_F(WebSocketCases, PingsAndPongs) {
  std::string all(125, '\0'), ten;
  std::vector<Frame> ten_pongs;
  for (std::size_t i = 0; i < 125; ++i) all[i] = static_cast<char>(0xff - i);
  for (int i = 0; i < 10; ++i) {
    ten += frame(ping, "payload " + std::to_string(i));
    ten_pongs.push_back({pong, "payload " + std::to_string(i)});
  }
  run_all({
      {"without payload", frame(ping), {{pong, ""}}},
      {"with a payload", frame(ping, "Hello, world!"), {{pong, "Hello, world!"}}},
      {"not UTF-8", frame(ping, "\xfe\xff"), {{pong, "\xfe\xff"}}},
      {"125 bytes", frame(ping, all), {{pong, all}}},
      {"126 bytes", frame(ping, all + "x"), {}, 1002},
      {"pong of 126 bytes", frame(pong, all + "x"), {}, 1002},
      {"a pong that nobody asked for", frame(pong) + frame(pong, "unsolicited"), {}},
      {"pong, then ping", frame(pong, "x") + frame(ping, "y"), {{pong, "y"}}},
      {"ten pings", ten, ten_pongs},
      {"unmasked ping", frame(ping, "x", 0, false), {}, 1002},
  });
}

TEST_F(WebSocketCases, ReservedBitsAndOpcodes) {
  std::vector<Case> cases;
  for (int bits = 1; bits < 8; ++bits)
    for (const int opcode : {text, binary, close_op, ping, pong}) {
      cases.push_back({"reserved bits", frame(opcode, "", bits), {}, 1002});
      cases.push_back({"after a message",
                       frame(text, "first") + frame(opcode, "x", bits) + frame(ping),
                       {{text, "first"}},
                       1002});
    }
  for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    cases.push_back({"reserved opcode", frame(opcode), {}, 1002});
    cases.push_back({"reserved opcode with a payload", frame(opcode, "payload"), {}, 1002});
    cases.push_back({"after a message",
                     frame(text, "first") + frame(opcode, "x") + frame(ping),
                     {{text, "first"}},
                     1002});
  }
  run_all(cases);
}

TEST_F(WebSocketCases, Fragments) {
  const auto part = [](int opcode, std::string_view payload) { return frame(opcode | unfinished, payload); };
  const std::vector<Frame> whole{{text, "fragment1fragment2"}};
  std::string many = part(binary, "");
  for (int i = 0; i < 1000; ++i) many += part(continuation, std::string(1, static_cast<char>(i)));
  std::string many_whole;
  for (int i = 0; i < 1000; ++i) many_whole += static_cast<char>(i);
  run_all({
      {"ping in two", part(ping, "a") + frame(continuation, "b"), {}, 1002},
      {"pong in two", part(pong, "a") + frame(continuation, "b"), {}, 1002},
      {"close in two", part(close_op, "") + frame(continuation, ""), {}, 1002},
      {"two", part(text, "fragment1") + frame(continuation, "fragment2"), whole},
      {"a ping between",
       part(text, "fragment1") + frame(ping, "p") + frame(continuation, "fragment2"),
       {{pong, "p"}, {text, "fragment1fragment2"}}},
      {"a pong between", part(text, "fragment1") + frame(pong, "p") + frame(continuation, "fragment2"),
       whole},
      {"empty ones", part(text, "") + part(continuation, "") + frame(continuation, ""), {{text, ""}}},
      {"empty around",
       part(text, "") + part(continuation, "middle") + frame(continuation, ""),
       {{text, "middle"}}},
      {"nothing to continue", frame(continuation, "x") + frame(text, "y"), {}, 1002},
      {"nothing to continue, unfinished", part(continuation, "x") + frame(text, "y"), {}, 1002},
      {"continued after its end",
       part(text, "fragment1") + frame(continuation, "fragment2") + frame(continuation, "3"), whole, 1002},
      {"continued after its end, unfinished",
       part(text, "fragment1") + frame(continuation, "fragment2") + part(continuation, "3"), whole, 1002},
      {"a text in a text", part(text, "fragment1") + frame(text, "fragment2"), {}, 1002},
      {"a binary in a text", part(text, "fragment1") + part(binary, "fragment2"), {}, 1002},
      {"five and pings",
       part(text, "1") + part(continuation, "2") + frame(ping, "a") + part(continuation, "3") +
           part(continuation, "4") + frame(ping, "b") + frame(continuation, "5"),
       {{pong, "a"}, {pong, "b"}, {text, "12345"}}},
      {"a thousand", many + frame(continuation, ""), {{binary, many_whole}}},
  });
}

TEST_F(WebSocketCases, TextIsUtf8) {
  const auto part = [](int opcode, std::string_view payload) { return frame(opcode | unfinished, payload); };
  std::vector<Case> cases;
  for (const std::string_view valid :
       {"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
        "\xef\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf0\x9f\xa7\xa0 spikes"}) {
    const std::string payload(valid);
    cases.push_back({"valid", frame(text, payload), {{text, payload}}});
    std::string by_bytes = part(text, "");
    for (const char c : payload) by_bytes += part(continuation, std::string(1, c));
    cases.push_back({"valid, a fragment for each byte", by_bytes + frame(continuation), {{text, payload}}});
    cases.push_back(
        {"valid, a ping in each",
         part(text, payload.substr(0, 1)) + frame(ping, "\xff") + frame(continuation, payload.substr(1)),
         {{pong, "\xff"}, {text, payload}}});
  }
  const std::string nul(1, '\0');
  cases.push_back({"NUL", frame(text, nul), {{text, nul}}});
  for (const std::string_view invalid : {"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"
                                         "edited",
                                         "\xf4\x90\x80\x80",
                                         "\xf5\x80\x80\x80",
                                         "\x80",
                                         "\xbf",
                                         "\x80\xbf",
                                         "\xc0\x80",
                                         "\xc1\xbf",
                                         "\xc0\xaf",
                                         "\xe0\x80\xaf",
                                         "\xe0\x9f\xbf",
                                         "\xf0\x80\x80\xaf",
                                         "\xf0\x8f\xbf\xbf",
                                         "\xf8\x88\x80\x80\x80",
                                         "\xfc\x84\x80\x80\x80\x80",
                                         "\xfe",
                                         "\xff",
                                         "\xed\xa0\x80",
                                         "\xed\xbf\xbf",
                                         "\xed\xa0\x80\xed\xb0\x80",
                                         "\xc2",
                                         "\xe1\xbd",
                                         "\xf0\x90\x80",
                                         "a\xc2"
                                         "b",
                                         "\xe1\xbd"
                                         "b",
                                         "\xf0\x90\x80"
                                         "b"}) {
    const std::string payload(invalid);
    cases.push_back({"invalid", frame(text, payload), {}, 1007});
    cases.push_back(
        {"invalid, after ASCII", frame(text, "long enough for eight at a time: " + payload), {}, 1007});
    std::string by_bytes = part(text, "");
    for (const char c : payload) by_bytes += part(continuation, std::string(1, c));
    cases.push_back({"invalid, a fragment for each byte", by_bytes + frame(continuation), {}, 1007});
    cases.push_back({"the same bytes, binary", frame(binary, payload), {{binary, payload}}});
  }
  // At the byte that can't be, without waiting for the message's end.
  cases.push_back({"invalid, not complete", part(text, "\xce\xba\xf4\x90"), {}, 1007});
  cases.push_back({"cut between fragments", part(text, "\xce") + frame(continuation, "x"), {}, 1007});
  run_all(cases);
}

TEST_F(WebSocketCases, Closing) {
  const auto part = [](int opcode, std::string_view payload) { return frame(opcode | unfinished, payload); };
  std::vector<Case> cases{
      {"empty", frame(close_op), {}, -1},
      {"one byte", frame(close_op, "a"), {}, 1002},
      {"with a reason", close_frame(1000, "going home"), {}, 1000},
      {"with the longest reason", close_frame(1000, std::string(123, '*')), {}, 1000},
      {"with a longer one", close_frame(1000, std::string(124, '*')), {}, 1002},
      {"a reason that is not UTF-8", close_frame(1000, "\xce\xba\xed\xa0\x80"), {}, 1007},
      {"a reason that is cut", close_frame(1000, "\xce"), {}, 1007},
      {"twice", close_frame(1000) + close_frame(1000), {}, 1000},
      {"ping after it", close_frame(1000) + frame(ping), {}, 1000},
      {"text after it", close_frame(1000) + frame(text, "late"), {}, 1000},
      {"in a message", part(text, "a") + close_frame(1000) + frame(continuation, "b"), {}, 1000},
      {"after much", frame(binary, std::string(256 * 1024, 'x')) + close_frame(1000), {}, 1000},
  };
  for (const int code :
       {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999})
    cases.push_back({"valid code", close_frame(code), {}, code});
  for (const int code : {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535})
    cases.push_back({"invalid code", close_frame(code), {}, 1002});
  // Whether the echo of what came before leaves depends on the handler's speed.
  for (auto& one : cases)
    if (std::string_view(one.name) == "after much") one.expected = {};
  start();
  for (const auto& one : cases) {
    if (std::string_view(one.name) == "after much") {
      Peer peer(port);
      peer.send(one.sent);
      const auto got = peer.rest();
      ASSERT_FALSE(got.empty());
      EXPECT_EQ(got.back().code(), 1000);
      continue;
    }
    run(one, 100'000);
    run(one, 1);
  }
  expect_well();
}

TEST_F(WebSocketCases, Limits) {
  Limits limits;
  limits.message_bytes = 1'000'000;
  start(limits);
  const auto part = [](int opcode, std::string_view payload) { return frame(opcode | unfinished, payload); };
  const std::string most(1'000'000, 'x');
  std::string in_pieces = part(text, "");
  for (std::size_t at = 0; at < most.size(); at += 1000)
    in_pieces += part(continuation, most.substr(at, 1000));
  const std::vector<Case> cases{
      {"the largest", frame(text, most), {{text, most}}},
      {"the largest, in pieces", in_pieces + frame(continuation), {{text, most}}},
      {"a byte more", frame(text, most + "x"), {}, 1009},
      {"a byte more, in pieces", in_pieces + frame(continuation, "x"), {}, 1009},
      {"announced only", std::string("\x82\xff\0\0\0\x10\0\0\0\0\0\0\0\0", 14), {}, 1009},
      {"a length of 63 bits", std::string("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14), {}, 1009},
      {"63 bits more",
       part(binary, "x") + std::string("\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14),
       {},
       1009},
  };
  for (const auto& one : cases) run(one, 1 << 20);
  expect_well();
}

TEST_F(WebSocketTest, RandomFramesNeverHurt) {
  start();
  auto random = random_numbers();
  for (int i = 0; i < 300; ++i) {
    auto bytes = frame(text, "hello") + frame(binary | unfinished, std::string(200, 'x')) + frame(ping, "p") +
                 frame(continuation, "end") + close_frame(1000, "bye");
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    Peer peer(port);
    peer.send(bytes);
    ::shutdown(peer.fd, SHUT_WR);
    (void)peer.rest();
    ASSERT_FALSE(peer.timed_out) << testing::PrintToString(bytes);
  }
  expect_well();
}

// ---- the end, from either side

TEST_F(WebSocketTest, TheFunctionsEndCloses) {
  start();
  const struct {
    const char* path;
    int code;
    std::string_view reason;
  } cases[] = {
      {"/return", 1000, ""}, {"/throw", 1011, ""}, {"/close", 4001, "as told"}, {"/close-odd", 0, ""}};
  for (const auto& one : cases) {
    Peer peer(port, one.path);
    const auto last = peer.next();
    EXPECT_EQ(last.opcode, static_cast<int>(close_op)) << one.path;
    EXPECT_EQ(last.code(), one.code) << one.path;
    if (one.code != 0) {
      EXPECT_EQ(last.payload.substr(2), one.reason) << one.path;
    }
    peer.send(frame(text, "ignored") + frame(ping) + frame(close_op, last.payload.substr(0, 2)));
    EXPECT_TRUE(peer.rest().empty()) << one.path;
  }
  Peer long_reason(port, "/close-long");
  EXPECT_EQ(long_reason.next().payload.substr(2), std::string(122, 'x'));
  EXPECT_TRUE(eventually([&] { return handler.started == handler.ended; }));
}

TEST_F(WebSocketTest, WhatIsQueuedLeavesBeforeTheClose) {
  start();
  Peer peer(port, "/queue-and-close");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(peer.next().payload, std::to_string(i));
  EXPECT_EQ(peer.next().code(), 1000);
}

TEST_F(WebSocketTest, APeerThatDoesNotAnswerACloseIsLeft) {
  Limits limits;
  limits.linger = 200ms;
  start(limits);
  Peer peer(port, "/return");
  EXPECT_EQ(peer.next().code(), 1000);
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
  EXPECT_TRUE(peer.closes());
}

TEST_F(WebSocketTest, APeerThatVanishesEndsTheFunction) {
  start();
  for (const bool resets : {false, true}) {
    const int before = handler.closed;
    {
      Peer peer(port);
      EXPECT_EQ(peer.echo("x"), "x");
      peer.send(frame(text | unfinished, "half a mess"));
      const linger now{1, 0};
      if (resets) ::setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    EXPECT_TRUE(eventually([&] { return handler.closed == before + 1; }));
  }
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
}

TEST_F(WebSocketTest, AFunctionThatStaysIsCancelled) {
  Limits limits;
  limits.farewell = 100ms;
  start(limits);
  {
    Peer peer(port, "/deaf");
    EXPECT_EQ(peer.answer.status, 101);
    EXPECT_TRUE(eventually([&] { return handler.started == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return handler.cancelled == 1; }));
}

TEST_F(WebSocketTest, StopSaysGoodbye) {
  Limits limits;
  limits.farewell = 200ms;
  start(limits);
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 100; ++i) {
    peers.push_back(std::make_unique<Peer>(port, i % 10 == 0 ? "/deaf" : "/echo"));
    EXPECT_EQ(peers.back()->answer.status, 101);
  }
  ASSERT_TRUE(eventually([&] { return handler.started == 100; }));
  auto done = stop_async(20s);
  for (auto& peer : peers) {
    const auto last = peer->next();
    EXPECT_EQ(last.code(), 1001);
    peer->send(close_frame(1001));
    EXPECT_TRUE(peer->closes());
  }
  EXPECT_EQ(done.wait_for(15s), std::future_status::ready);  // before the grace is over
  EXPECT_EQ(handler.closed, 90);
  EXPECT_EQ(handler.cancelled, 10);
}

TEST_F(WebSocketTest, StopWaitsNoLongerThanTheGrace) {
  start();
  Peer silent(port), deaf(port, "/deaf"), full(port, "/pour", 4096);
  EXPECT_EQ(silent.echo("x"), "x");
  ASSERT_TRUE(eventually([&] { return handler.started == 3; }));
  auto done = stop_async(100ms);
  EXPECT_EQ(done.wait_for(20s), std::future_status::ready);
  EXPECT_EQ(silent.next().code(), 1001);
  EXPECT_TRUE(silent.closes());
  EXPECT_TRUE(eventually([&] { return handler.ended == 3; }));
}

TEST_F(WebSocketTest, ServerMayDieWithoutStop) {
  start();
  Peer peer(port), deaf(port, "/deaf");
  EXPECT_EQ(peer.echo("x"), "x");
  loop->stop();
  thread.join();
  server.reset();
  loop.reset();
  EXPECT_EQ(peer.next().code(), 1001);
  EXPECT_TRUE(peer.closes());
}

// ---- slow, silent and greedy peers

TEST_F(WebSocketTest, SilentPeersArePinged) {
  Limits limits;
  limits.ping_after = 100ms;
  limits.pong_timeout = 2s;
  start(limits);
  Peer silent(port), lively(port);
  std::atomic<bool> done = false;
  std::thread answering([&] {
    while (!done) {
      const auto one = lively.next(50ms);
      if (one.opcode == ping) lively.send(frame(pong, one.payload));
    }
  });
  EXPECT_EQ(silent.next().opcode, static_cast<int>(ping));
  EXPECT_TRUE(silent.closes());
  EXPECT_TRUE(eventually([&] { return metrics().timeouts == 1; }));
  std::this_thread::sleep_for(2500ms);
  done = true;
  answering.join();
  EXPECT_EQ(metrics().web_sockets, 1u);
  EXPECT_EQ(metrics().timeouts, 1u);
}

TEST_F(WebSocketTest, TheOutgoingQueueIsBounded) {
  Limits limits;
  limits.message_queue_bytes = 1 << 20;
  limits.write_timeout = 1s;
  start(limits);
  Peer peer(port, "/fill", 4096);
  EXPECT_TRUE(eventually([&] { return handler.refused == 1; }));
  const int queued = handler.sent;
  EXPECT_LT(queued, 200);  // the queue, and what the kernel takes
  // A peer that takes nothing is dropped.
  EXPECT_TRUE(eventually([&] { return metrics().timeouts == 1; }));
  EXPECT_TRUE(eventually([&] { return metrics().open == 0; }));
}

TEST_F(WebSocketTest, SendWaitsForTheReader) {
  start();
  Peer peer(port, "/pour", 65536);
  std::size_t got = 0;
  for (int i = 0; i < 300; ++i) {
    const auto one = peer.next();
    ASSERT_EQ(one.opcode, static_cast<int>(binary));
    got += one.payload.size();
  }
  EXPECT_EQ(got, 30'000'000u);
  EXPECT_LT(handler.sent, 300 + 200);
  peer.send(close_frame(1000));
  EXPECT_TRUE(eventually([&] { return handler.closed > 0; }));  // which no send delays
}

TEST_F(WebSocketTest, APeerThatSendsMoreThanIsReadWaits) {
  start();
  Peer peer(port, "/hold");
  const auto message = frame(binary, std::string(1000, 'x'));
  std::atomic<int> sent = 0;
  std::thread sender([&] {
    for (int i = 0; i < 20'000 && peer.send(message); ++i) ++sent;
  });
  EXPECT_TRUE(eventually([&] { return metrics().buffered > 60'000; }));
  std::this_thread::sleep_for(100ms);
  EXPECT_LT(metrics().buffered, 200'000u);
  EXPECT_LT(sent, 20'000);
  on_loop([this] { handler.release.set(); });
  std::thread reader([&] {
    for (int i = 0; i < 20'000; ++i) EXPECT_EQ(peer.next().payload.size(), 1000u);
  });
  sender.join();
  reader.join();
  EXPECT_EQ(handler.received, 20'000);
  EXPECT_TRUE(eventually([&] { return metrics().buffered == 0; }));
}

TEST_F(WebSocketTest, AFunctionThatEndsWithoutReadingClosesWell) {
  start();
  Peer peer(port, "/hold-and-return");
  for (int i = 0; i < 300; ++i) peer.send(frame(binary, std::string(1000, 'x')));
  EXPECT_TRUE(eventually([&] { return metrics().buffered > 60'000; }));
  on_loop([this] { handler.release.set(); });
  EXPECT_EQ(peer.next().code(), 1000);
  peer.send(close_frame(1000));
  EXPECT_TRUE(peer.rest().empty());
  EXPECT_FALSE(peer.reset);
}

TEST_F(WebSocketTest, MessagesTogetherAreBounded) {
  Limits limits;
  limits.buffered_bytes = 1'000'000;
  start(limits);
  Peer holder(port), other(port);
  holder.send(frame(binary | unfinished, std::string(900'000, 'x')));
  EXPECT_TRUE(eventually([&] { return metrics().buffered == 900'000; }));
  other.send(frame(binary | unfinished, std::string(200'000, 'x')));
  EXPECT_EQ(other.next().code(), 1013);
  holder.send(frame(continuation, "x"));
  EXPECT_EQ(holder.next().payload.size(), 900'001u);
}

TEST_F(WebSocketTest, PongsDoNotPileUp) {
  start();
  Peer peer(port, "/pour", 4096);
  ASSERT_TRUE(eventually([&] { return handler.sent > 10; }));
  const auto one = frame(ping, std::string(125, 'x'));
  for (int i = 0; i < 20'000; ++i) ASSERT_TRUE(peer.send(one));
  int pongs = 0;
  for (int i = 0; i < 300; ++i) pongs += peer.next().opcode == pong ? 1 : 0;
  EXPECT_LT(pongs, 200);
}

TEST_F(WebSocketTest, ThousandsOfIdleSocketsAllAnswer) {
  constexpr int count = 2000;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < 2 * count + 200) GTEST_SKIP() << "not enough descriptors are allowed here";
  Limits limits;
  limits.ping_after = 500ms;
  start(limits);
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < count; ++i) {
    peers.push_back(std::make_unique<Peer>(port));
    ASSERT_EQ(peers.back()->answer.status, 101);
  }
  EXPECT_EQ(metrics().web_sockets, static_cast<std::uint64_t>(count));
  // Each is pinged by the server, and answers; then each is asked.
  for (auto& peer : peers) {
    const auto one = peer->next();
    ASSERT_EQ(one.opcode, static_cast<int>(ping));
    peer->send(frame(pong, one.payload));
  }
  for (auto& peer : peers) peer->send(frame(text, "are you there?") + frame(ping, "and you?"));
  for (auto& peer : peers) {
    int answers = 0, pongs = 0;
    while (answers + pongs < 2) {
      const auto one = peer->next();
      if (one.opcode < 0) break;
      answers += one.payload == "are you there?" ? 1 : 0;
      pongs += one.payload == "and you?" ? 1 : 0;
    }
    ASSERT_EQ(answers, 1);
    ASSERT_EQ(pongs, 1);
  }
  EXPECT_EQ(once(get("/now")).status, 200);
  peers.clear();
  EXPECT_TRUE(eventually([&] { return metrics().web_sockets == 0; }));
}

}  // namespace
}  // namespace myelin::http

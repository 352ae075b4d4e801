#pragma once
// For tests: a blocking client, and a server with its loop on a thread of its own.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <random>
#include <thread>

#include "http/server.hpp"

namespace myelin::http {

using namespace std::chrono_literals;

struct Answer {
  int status = 0;
  std::string head, body;
  bool complete = false;
  [[nodiscard]] bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
};

/// A blocking client that sends what it is told and reads with a time limit.
class Client {
 public:
  Client() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  explicit Client(std::uint16_t port, int receive_buffer = 0) : Client() {
    if (receive_buffer) ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    connect(port);
  }
  void connect(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  explicit Client(const std::string& path) : fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    connected = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() {
    if (fd >= 0) ::close(fd);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// Reads once; false at the end, on error, or after `wait`.
  bool fill(milliseconds wait = 20s) {
    pollfd p{fd, POLLIN, 0};
    timed_out = ::poll(&p, 1, static_cast<int>(wait.count())) == 0;
    if (timed_out) return false;
    char buffer[65536];
    const auto n = ::recv(fd, buffer, sizeof buffer, 0);
    reset = n < 0;
    if (n <= 0) return false;
    input.append(buffer, static_cast<std::size_t>(n));
    return true;
  }
  std::string read_all() {
    while (fill()) {
    }
    return std::exchange(input, {});
  }
  /// True if the peer closes within `wait`.
  bool closes(milliseconds wait = 20s) {
    while (fill(wait)) {
    }
    return !timed_out;
  }
  Answer receive_head() {
    Answer out;
    std::size_t end = 0;
    while ((end = input.find("\r\n\r\n")) == std::string::npos)
      if (!fill()) return out;
    out.head = input.substr(0, end + 4);
    input.erase(0, end + 4);
    out.status = std::atoi(out.head.c_str() + 9);
    return out;
  }
  Answer receive(bool to_head = false) {
    Answer out = receive_head();
    if (out.head.empty()) return out;
    const auto length = out.head.find("Content-Length: ");
    if (to_head || out.status == 204 || out.status == 304 || out.status == 100) {
      out.complete = true;
    } else if (out.has("Transfer-Encoding: chunked")) {
      for (;;) {
        std::size_t eol = 0;
        while ((eol = input.find("\r\n")) == std::string::npos)
          if (!fill()) return out;
        const auto size = std::strtoul(input.c_str(), nullptr, 16);
        while (input.size() < eol + 2 + size + 2)
          if (!fill()) return out;
        out.body += input.substr(eol + 2, size);
        input.erase(0, eol + 2 + size + 2);
        if (size == 0) break;
      }
      out.complete = true;
    } else if (length != std::string::npos) {
      const auto size = std::strtoul(out.head.c_str() + length + 16, nullptr, 10);
      while (input.size() < size)
        if (!fill()) break;
      out.complete = input.size() >= size;
      out.body = input.substr(0, size);
      input.erase(0, size);
    } else {
      out.body = read_all();
      out.complete = !reset && !timed_out;
    }
    return out;
  }
  Answer ask(std::string_view text, bool to_head = false) {
    send(text);
    return receive(to_head);
  }

  int fd;
  bool connected = false, timed_out = false, reset = false;
  std::string input;
};

inline std::string get(std::string_view path, std::string_view method = "GET", std::string_view more = "") {
  return std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: h\r\n" + std::string(more) +
         "\r\n";
}
inline std::string post(std::string_view path, std::string_view body, std::string_view more = "") {
  return get(path, "POST", "Content-Length: " + std::to_string(body.size()) + "\r\n" + std::string(more)) +
         std::string(body);
}

/// Random numbers that a failed test can be given again: MYELIN_SEED.
inline std::mt19937 random_numbers() {
  const char* given = std::getenv("MYELIN_SEED");
  const unsigned seed = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  std::printf("MYELIN_SEED=%u\n", seed);
  return std::mt19937(seed);
}

/// A server with its loop on a thread of its own.
template <class H>
class ServerTest : public ::testing::Test {
 protected:
  void start(Limits limits = {}, std::shared_ptr<Tls> tls = nullptr) {
    limits.sweep = 10ms;
    loop = std::make_unique<async::Loop>();
    server = std::make_unique<Server>(*loop, limits, handler);
    auto address = server->listen("127.0.0.1", 0, 0, std::move(tls));
    ASSERT_TRUE(address.ok());
    port = address->port;
    server->serve();
    thread = std::thread([this] { loop->run(); });
  }
  void TearDown() override {
    if (!thread.joinable()) return;
    on_loop([this] { handler.release.set(); });
    stop(2s);
    loop->stop();
    thread.join();
    EXPECT_EQ(server->metrics().open, 0u);
    EXPECT_EQ(server->metrics().active, 0u);
    EXPECT_EQ(server->metrics().buffered, 0u);
    EXPECT_EQ(server->metrics().web_sockets, 0u);
    server.reset();
    loop.reset();
  }
  template <class F>
  std::invoke_result_t<F> on_loop(F f) {
    std::packaged_task<std::invoke_result_t<F>()> task(std::move(f));
    auto result = task.get_future();
    loop->post([&task] { task(); });
    return result.get();
  }
  Metrics metrics() {
    return on_loop([this] { return server->metrics(); });
  }
  static Task<void> stop_then(Server* s, milliseconds grace, std::promise<void>* done) {
    co_await s->stop(grace);
    done->set_value();
  }
  std::future<void> stop_async(milliseconds grace) {
    auto result = stopped.get_future();
    loop->post([this, grace] { async::spawn(*loop, stop_then(server.get(), grace, &stopped), "stop"); });
    return result;
  }
  void stop(milliseconds grace) {
    stopped = {};
    stop_async(grace).get();
  }
  /// Waits for something that becomes true soon.
  template <class F>
  bool eventually(F f) {
    const auto end = std::chrono::steady_clock::now() + 90s;
    while (std::chrono::steady_clock::now() < end) {
      if (f()) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }
  Answer once(std::string_view text) {
    Client client(port);
    return client.ask(text);
  }
  void expect_alive() { EXPECT_EQ(once(get("/now")).status, 200); }

  H handler;  // with an Event `release` that ends what waits
  std::unique_ptr<async::Loop> loop;
  std::unique_ptr<Server> server;
  std::thread thread;
  std::uint16_t port = 0;
  std::promise<void> stopped;
};

}  // namespace myelin::http

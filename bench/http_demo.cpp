// The server at its fastest, for bench/http.sh: GET / answers what NEST Server does, GET /slow the same by
// coroutine, and a WebSocket at /echo sends back what it gets.
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "http/server.hpp"
#include "http/web_socket.hpp"

namespace {

using namespace myelin;

constexpr const char* body =
    R"({"nest": "3.9.0", "mpi": false, "server": "myelin", "docs": "https://nest-simulator.readthedocs.io"})";

class Demo : public http::Handler {
 public:
  bool handle_now(http::Request& request, http::Response& response) override {
    if (request.path != "/") return false;
    fill(response);
    return true;
  }
  http::Task<std::optional<http::Response>> admit(http::Request&) override { co_return std::nullopt; }
  http::Task<http::Response> handle(http::Request request) override {
    http::Response response;
    if (request.path == "/echo")
      response.web_socket = echo;
    else
      fill(response);
    co_return response;
  }

 private:
  static http::Task<void> echo(std::shared_ptr<http::WebSocket> socket) {
    for (;;) {
      auto message = co_await socket->receive();
      if (!message || !*message) co_return;
      auto back = std::move(**message);
      const auto sent = co_await socket->send(std::move(back));
      if (!sent) co_return;
    }
  }
  static void fill(http::Response& response) {
    response.headers.add("Content-Type", "application/json");
    response.headers.add("Access-Control-Allow-Origin", "http://localhost:54286");
    response.headers.add("Vary", "Origin");
    response.body = body;
  }
};

}  // namespace

int main(int argc, char** argv) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  async::Loop loop;
  Demo demo;
  http::Server server(loop, {}, demo);
  const auto address =
      server.listen("127.0.0.1", static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0));
  if (!address) {
    std::cerr << address.error().message << "\n";
    return 1;
  }
  std::cout << address->port << std::endl;
  server.serve();
  loop.on_signal(SIGTERM, [&](int) { loop.stop(); });
  loop.run();
}

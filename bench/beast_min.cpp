// The peer of bench/http.sh: the smallest coroutine server that Boost.Beast allows, with no limit but a
// timeout.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdlib>
#include <iostream>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;

namespace {

asio::awaitable<void> session(tcp::socket socket) {
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer;
  try {
    for (;;) {
      stream.expires_after(std::chrono::seconds(30));
      http::request<http::string_body> request;
      co_await http::async_read(stream, buffer, request, asio::use_awaitable);
      http::response<http::string_body> response{http::status::ok, request.version()};
      response.set(http::field::server, "beast");
      response.set(http::field::content_type, "application/json");
      response.set(http::field::access_control_allow_origin, "http://localhost:54286");
      response.set(http::field::vary, "Origin");
      response.keep_alive(request.keep_alive());
      response.body() =
          R"({"nest": "3.9.0", "mpi": false, "server": "myelin", "docs": "https://nest-simulator.readthedocs.io"})";
      response.prepare_payload();
      co_await http::async_write(stream, response, asio::use_awaitable);
      if (!response.keep_alive()) break;
    }
  } catch (const std::exception&) {
  }
}

asio::awaitable<void> accept(tcp::acceptor acceptor) {
  for (;;) {
    auto socket = co_await acceptor.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(acceptor.get_executor(), session(std::move(socket)), asio::detached);
  }
}

}  // namespace

int main(int argc, char** argv) {
  asio::io_context context(1);
  tcp::acceptor acceptor(context, {asio::ip::make_address("127.0.0.1"),
                                   static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0)});
  std::cout << acceptor.local_endpoint().port() << std::endl;
  asio::co_spawn(context, accept(std::move(acceptor)), asio::detached);
  context.run();
}

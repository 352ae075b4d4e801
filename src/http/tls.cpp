#include "http/tls.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>

#include "base/log.hpp"

namespace myelin::http {

namespace asio = boost::asio;
using async::Task;
using boost::system::error_code;

namespace {

constexpr std::chrono::seconds handshake_time{10}, farewell_time{5};
constexpr std::size_t piece = 16 * 1024;  // a record of TLS

using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, asio::io_context::executor_type>;
using Clock = std::chrono::steady_clock;
using Timer = asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, asio::io_context::executor_type>;

std::string said(const error_code& ec) { return ec.message(); }

Result<std::shared_ptr<asio::ssl::context>> context_of(const std::filesystem::path& certificate, const std::filesystem::path& key) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  SSL_CTX* raw = context->native_handle();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);  // an idle WebSocket keeps no record's buffer
  SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20");  // of TLS 1.2: forward secrecy and authenticated encryption only
  error_code ec;
  context->use_certificate_chain_file(certificate.string(), ec);
  if (ec) return Error{Code::bad_request, "tls_cert: " + certificate.string() + " can't be used as a certificate chain in PEM: " + said(ec), ""};
  context->use_private_key_file(key.string(), asio::ssl::context::pem, ec);
  if (ec) return Error{Code::bad_request, "tls_key: " + key.string() + " can't be used as the certificate's key in PEM: " + said(ec), ""};
  if (SSL_CTX_check_private_key(raw) != 1) return Error{Code::bad_request, "tls_key: " + key.string() + " is not the key of the certificate", ""};
  X509* leaf = SSL_CTX_get0_certificate(raw);
  if (leaf && X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0) log::warning("the certificate " + certificate.string() + " has expired");
  return context;
}

struct Relay {
  Relay(async::Loop& loop, std::shared_ptr<asio::ssl::context> with, os::UniqueFd fd, int family)
      : context(std::move(with)),
        peer(Socket(loop.context(), asio::generic::stream_protocol(family, SOCK_STREAM), fd.get()), *context),
        inner(loop.context()),
        timer(loop.context()) {
    (void)fd.release();
    peer.lowest_layer().non_blocking(true);
  }

  void close() {
    error_code ignored;
    peer.lowest_layer().close(ignored);
    inner.close(ignored);
    timer.cancel();
  }
  // Cuts the peer off unless disarmed in time.
  static void arm(const std::shared_ptr<Relay>& self, std::chrono::milliseconds time) {
    self->timer.expires_after(time);
    self->timer.async_wait([weak = std::weak_ptr<Relay>(self)](const error_code& ec) {
      if (auto relay = weak.lock(); relay && !ec) relay->close();
    });
  }

  std::shared_ptr<asio::ssl::context> context;  // outlives the stream
  asio::ssl::stream<Socket> peer;
  Socket inner;
  Timer timer;
};

// What the peer sends. Its end is the inner connection's end of requests.
Task<void> inwards(std::shared_ptr<Relay> relay) {
  std::array<char, piece> buffer;
  for (;;) {
    error_code ec;
    auto token = asio::redirect_error(asio::use_awaitable, ec);
    auto n = co_await relay->peer.async_read_some(asio::buffer(buffer), token);
    if (ec) break;
    co_await asio::async_write(relay->inner, asio::buffer(buffer.data(), n), token);
    if (ec) break;
  }
  error_code ignored;
  relay->inner.shutdown(Socket::shutdown_send, ignored);
}

Task<void> outwards(std::shared_ptr<Relay> relay, std::chrono::milliseconds reading_time) {
  std::array<char, piece> buffer;
  for (;;) {
    error_code ec;
    auto token = asio::redirect_error(asio::use_awaitable, ec);
    auto n = co_await relay->inner.async_read_some(asio::buffer(buffer), token);
    if (ec) break;
    Relay::arm(relay, reading_time);  // a peer that reads nothing would hold its place for ever
    co_await asio::async_write(relay->peer, asio::buffer(buffer.data(), n), token);
    if (ec) break;
    relay->timer.cancel();
  }
  Relay::arm(relay, farewell_time);
  error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  co_await relay->peer.async_shutdown(token);
  relay->close();
}

}  // namespace

struct Tls::Impl {
  std::filesystem::path certificate, key;
  std::shared_ptr<asio::ssl::context> context;
};

Tls::Tls(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tls::~Tls() = default;

Result<std::shared_ptr<Tls>> Tls::make(std::filesystem::path certificate, std::filesystem::path key) {
  auto context = context_of(certificate, key);
  if (!context) return context.take_error();
  return std::shared_ptr<Tls>(new Tls(std::make_unique<Impl>(Impl{std::move(certificate), std::move(key), std::move(*context)})));
}

Result<void> Tls::reload() {
  auto context = context_of(impl_->certificate, impl_->key);
  if (!context) return context.take_error();
  impl_->context = std::move(*context);
  return {};
}

Task<void> Tls::serve(std::shared_ptr<Tls> tls, async::Loop* loop, os::UniqueFd fd, std::chrono::milliseconds reading_time, Ready ready) {
  const int on = 1, idle = 60;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  sockaddr_storage where{};
  socklen_t size = sizeof where;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&where), &size);
  auto relay = std::make_shared<Relay>(*loop, tls->impl_->context, std::move(fd), where.ss_family);
  Relay::arm(relay, handshake_time);
  error_code ec;
  auto token = asio::redirect_error(asio::use_awaitable, ec);
  co_await relay->peer.async_handshake(asio::ssl::stream_base::server, token);
  relay->timer.cancel();
  if (ec) {
    relay->close();
    co_return;
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    relay->close();
    co_return;
  }
  relay->inner.assign(asio::generic::stream_protocol(AF_UNIX, SOCK_STREAM), ends[0]);
  ready(os::UniqueFd(ends[1]));
  async::spawn(*loop, inwards(relay), "TLS, inwards");
  co_await outwards(relay, reading_time);
}

}  // namespace myelin::http

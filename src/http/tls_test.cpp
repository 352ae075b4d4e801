// Peers behind TLS that stop reading.
#include "http/tls.hpp"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <csignal>
#include <filesystem>

#include "http/test_server.hpp"

namespace myelin::http {
namespace {

class LargeHandler : public Handler {
 public:
  async::Event release;
  Task<std::optional<Response>> admit(Request&) override { co_return std::nullopt; }
  Task<Response> handle(Request request) override {
    co_return reply(200, "text/plain", request.path == "/large" ? std::string(16u << 20, 'x') : "now");
  }
};

// A certificate signed by itself, and its key: two files.
void make_certificate(const std::filesystem::path& certificate, const std::filesystem::path& key) {
  EVP_PKEY* pair = EVP_EC_gen("P-256");
  X509* x509 = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), 0);
  X509_gmtime_adj(X509_getm_notAfter(x509), 24 * 3600);
  X509_set_pubkey(x509, pair);
  X509_sign(x509, pair, EVP_sha256());
  BIO* out = BIO_new_file(certificate.c_str(), "w");
  PEM_write_bio_X509(out, x509);
  BIO_free(out);
  out = BIO_new_file(key.c_str(), "w");
  PEM_write_bio_PrivateKey(out, pair, nullptr, nullptr, 0, nullptr, nullptr);
  BIO_free(out);
  X509_free(x509);
  EVP_PKEY_free(pair);
}

class TlsClient {
 public:
  explicit TlsClient(std::uint16_t port, int receive_buffer = 0) : plain_(port, receive_buffer), context_(SSL_CTX_new(TLS_client_method())), ssl_(SSL_new(context_)) {
    SSL_set_fd(ssl_, plain_.fd);
    connected = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;
  void send(const std::string& text) { EXPECT_EQ(SSL_write(ssl_, text.data(), static_cast<int>(text.size())), static_cast<int>(text.size())); }
  std::string read() {
    char buffer[1000];
    const int n = SSL_read(ssl_, buffer, sizeof buffer);
    return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : "";
  }
  bool connected = false;

 private:
  Client plain_;
  SSL_CTX* context_;
  SSL* ssl_;
};

class TlsTest : public ServerTest<LargeHandler> {
 protected:
  void start_with_one_place() {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    const auto folder = std::filesystem::path(::testing::TempDir()) / ("tls_test_" + std::to_string(::getpid()));
    std::filesystem::create_directory(folder);
    make_certificate(folder / "c.pem", folder / "k.pem");
    auto tls = Tls::make(folder / "c.pem", folder / "k.pem");
    std::filesystem::remove_all(folder);
    ASSERT_TRUE(tls.ok()) << tls.error().message;
    Limits limits;
    limits.write_timeout = 300ms;
    limits.connections = 1;
    limits.web_sockets = 0;
    start(limits, *tls);
  }
};

TEST_F(TlsTest, APeerThatReadsNothingLosesItsPlace) {
  start_with_one_place();
  TlsClient silent(port, 4096);
  ASSERT_TRUE(silent.connected);
  EXPECT_FALSE(TlsClient(port).connected) << "there is one place";
  silent.send(get("/large"));
  EXPECT_TRUE(eventually([&] {
    TlsClient next(port);
    if (!next.connected) return false;
    next.send(get("/now"));
    return next.read().starts_with("HTTP/1.1 200");
  }));
}

}  // namespace
}  // namespace myelin::http

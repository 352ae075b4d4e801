// The grammars: heads, chunks, escapes, origins. The fuzz tests print their seed and take MYELIN_SEED.
#include "http/parse.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "http/cors.hpp"
#include "http/text.hpp"

namespace myelin::http {
namespace {

struct Parsed {
  Refusal refusal;
  Request request;
  Framing framing;
};

Parsed parse(std::string_view head, std::size_t fields = 100) {
  Parsed out;
  HeadScanner scanner;
  const auto state = scanner.scan(head);
  if (state == HeadScanner::State::bad)
    out.refusal = {400, "scan"};
  else if (state == HeadScanner::State::more)
    out.refusal = {-1, "incomplete"};
  else
    out.refusal = parse_head(head.substr(0, scanner.length()), fields, out.request, out.framing);
  return out;
}

int status(std::string_view head) { return parse(head).refusal.status; }

TEST(ParseHead, Plain) {
  const auto p = parse("GET /a%20b/%C3%A9?x=%2F&y HTTP/1.1\r\nHost: h:1\r\nX-Y:  v \t\r\nEmpty:\r\n\r\n");
  ASSERT_EQ(p.refusal.status, 0) << p.refusal.why;
  EXPECT_EQ(p.request.method, "GET");
  EXPECT_EQ(p.request.path, "/a b/\xc3\xa9");
  EXPECT_EQ(p.request.query, "x=%2F&y");
  EXPECT_EQ(p.request.target, "/a%20b/%C3%A9?x=%2F&y");
  EXPECT_EQ(p.request.headers.get("x-y"), "v");
  EXPECT_TRUE(p.request.headers.has("EMPTY"));
  EXPECT_TRUE(p.framing.keep_alive);
  EXPECT_FALSE(p.request.has_body);
}

TEST(ParseHead, TargetForms) {
  EXPECT_EQ(parse("GET http://other:80/x?y HTTP/1.1\r\nHost: h\r\n\r\n").request.headers.get("host"),
            "other:80");
  EXPECT_EQ(parse("GET http://other?y HTTP/1.1\r\nHost: h\r\n\r\n").request.path, "/");
  EXPECT_EQ(parse("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").request.path, "*");
  EXPECT_EQ(parse("GET /%252e HTTP/1.1\r\nHost: h\r\n\r\n").request.path, "/%2e");  // decoded once
  for (const char* target : {"*", "x", "h:80", "ftp://h/", "http:///", "http://a b/", "/#f", "/%00", "/%zz",
                             "/%1", "http://u@h/", "/\x7f"})
    EXPECT_EQ(status("GET " + std::string(target) + " HTTP/1.1\r\nHost: h\r\n\r\n"), 400) << target;
}

TEST(ParseHead, KeepAlive) {
  const auto keep = [](const char* text) {
    const auto p = parse(text);
    EXPECT_EQ(p.refusal.status, 0) << text;
    return p.framing.keep_alive;
  };
  EXPECT_TRUE(keep("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.1\r\nHost: h\r\nConnection: x , Close\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"));
}

TEST(ParseHead, RefusesWhatTwoParsersCouldReadDifferently) {
  const std::string start = "POST / HTTP/1.1\r\nHost: h\r\n";
  for (const char* fields : {"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
                             "Content-Length: 1\r\nContent-Length: 2\r\n",
                             "Content-Length: 1\r\nContent-Length: 1\r\n",
                             "Content-Length: 1, 1\r\n",
                             "Content-Length: +1\r\n",
                             "Content-Length: -1\r\n",
                             "Content-Length: 0x1\r\n",
                             "Content-Length:\r\n",
                             "Content-Length: 1 1\r\n",
                             "Content-Length: 99999999999999999999\r\n",
                             "X: a\r\n b\r\n",
                             "X: a\r\n\tb\r\n",
                             " X: a\r\n",
                             "X : a\r\n",
                             ": a\r\n",
                             "X\r\n",
                             "X: a\nY: b\r\n",
                             "X: a\rb\r\n",
                             "X: \x01\r\n",
                             "X\xc3: a\r\n",
                             "Host: i\r\n",
                             "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding : chunked\r\n"})
    EXPECT_EQ(status(start + fields + "\r\n"), 400) << fields;
  EXPECT_EQ(status(start + std::string("X: a\0b\r\n\r\n", 10)), 400);
  for (const char* encoding :
       {"gzip", "gzip, chunked", "identity", "xchunked", "chunked;q=1", "", "\"chunked\""})
    EXPECT_EQ(status(start + "Transfer-Encoding: " + encoding + "\r\n\r\n"), 501) << encoding;
  EXPECT_EQ(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\nHost: h\n\n"), 400);  // bare LF
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: h\r\n\n"), 400);
  for (const char* line :
       {"GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET /\tHTTP/1.1", "GET /", "GET",
        "G(T / HTTP/1.1", "GET / http/1.1", "GET / HTTP/1.10", "GET / HTTP/x.1", "GET / HTTPS/1.1",
        "\x16\x03\x01", "GET / / HTTP/1.1", "AVERYLONGMETHODTHATNOBODYHASEVERSEENBEFORE / HTTP/1.1"})
    EXPECT_EQ(status(std::string(line) + "\r\nHost: h\r\n\r\n"), 400) << line;
  EXPECT_EQ(status("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n"), 417);
}

TEST(ParseHead, CountsFields) {
  std::string head = "GET / HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < 3; ++i) head += "X: y\r\n";
  EXPECT_EQ(parse(head + "\r\n", 4).refusal.status, 0);
  EXPECT_EQ(parse(head + "\r\n", 3).refusal.status, 431);
}

TEST(Scanner, FindsTheEndHoweverItIsCut) {
  const std::string head = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  HeadScanner scanner;
  for (std::size_t n = 1; n < head.size(); ++n)
    ASSERT_EQ(scanner.scan(std::string_view(head).substr(0, n)), HeadScanner::State::more) << n;
  EXPECT_EQ(scanner.scan(head + "POST"), HeadScanner::State::complete);
  EXPECT_EQ(scanner.length(), head.size());
}

// ---- chunks

struct Chunked {
  ChunkDecoder::State state;
  std::string body;
  std::size_t used;
};

/// Decodes `text` in pieces of `step` bytes.
Chunked decode(std::string_view text, std::size_t step = 1u << 20, std::uint64_t limit = 1000) {
  ChunkDecoder decoder;
  Chunked out{ChunkDecoder::State::more, "", 0};
  while (out.state == ChunkDecoder::State::more && out.used < text.size()) {
    std::size_t used = 0;
    out.state = decoder.feed(text.substr(out.used, step), used, out.body, limit);
    out.used += used;
  }
  return out;
}

TEST(Chunks, DecodesHoweverCut) {
  const std::string text = "5\r\nhello\r\n0A;x=\"y z\"\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nGET";
  for (std::size_t step = 1; step < text.size(); ++step) {
    const auto d = decode(text, step);
    ASSERT_EQ(d.state, ChunkDecoder::State::done) << step;
    EXPECT_EQ(d.body, "hello0123456789");
    EXPECT_EQ(d.used, text.size() - 3);
  }
}

TEST(Chunks, RefusesBadOnes) {
  for (const char* text : {"\r\n",
                           "g\r\n",
                           "-1\r\n",
                           "+1\r\n",
                           "0x1\r\n",
                           " 1\r\n",
                           "1 \r\n",
                           "1\n",
                           "1\r1",
                           "1\r\nxx",
                           "1\r\nx\n",
                           "1\r\nx\r1",
                           "0\r\n\n",
                           "0\r\n\rx",
                           "0\r\n x: y\r\n\r\n",
                           "0\r\nx: y\n",
                           "0000000000000001\r\n",
                           "ffffffffffffffffff\r\n",
                           "1;\n\r\n",
                           "1;a\x01\r\n"})
    EXPECT_EQ(decode(text).state, ChunkDecoder::State::bad) << text;
  EXPECT_EQ(decode("3e9\r\n").state, ChunkDecoder::State::too_large);
  EXPECT_EQ(decode("3e8\r\n").state, ChunkDecoder::State::more);
  EXPECT_EQ(decode("fffffffffffffff\r\n").state, ChunkDecoder::State::too_large);
  EXPECT_EQ(decode("1\r\nx\r\n3e8\r\n").state, ChunkDecoder::State::too_large);
  std::string many;  // one byte a chunk, each with an extension
  for (int i = 0; i < 100; ++i) many += "1;" + std::string(200, 'e') + "\r\nx\r\n";
  EXPECT_EQ(decode(many).state, ChunkDecoder::State::bad);
  EXPECT_EQ(decode("0\r\nT: " + std::string(9000, 't') + "\r\n\r\n").state, ChunkDecoder::State::bad);
}

// ---- fuzz

unsigned seed() {
  const char* given = std::getenv("MYELIN_SEED");
  const unsigned value =
      given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
  std::printf("MYELIN_SEED=%u\n", value);
  return value;
}

std::string mutate(std::string text, std::mt19937& random) {
  static constexpr std::string_view pieces[] = {"\r\n",
                                                "\n",
                                                "\r",
                                                " ",
                                                "\t",
                                                ":",
                                                "Content-Length: 5",
                                                "\r\n\r\n",
                                                "%00",
                                                "Transfer-Encoding: chunked",
                                                "Host: x\r\n",
                                                "0\r\n\r\n",
                                                "HTTP/1.0",
                                                ";",
                                                "fffffffffffffff",
                                                "Expect: 100-continue\r\n",
                                                "\xff",
                                                "?",
                                                "#",
                                                "*"};
  const auto times = 1 + random() % 4;
  for (unsigned i = 0; i < times; ++i) {
    const auto at = random() % (text.size() + 1);
    switch (random() % 5) {
      case 0:
        text.insert(at, pieces[random() % std::size(pieces)]);
        break;
      case 1:
        text.erase(at, random() % 5);
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 3:
        text.insert(at, text.substr(random() % (text.size() + 1), random() % 40));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
        break;
    }
  }
  return text;
}

TEST(Fuzz, HeadsThatPassAreUnambiguous) {
  std::mt19937 random(seed());
  const std::string seeds[] = {
      "POST /a%20b?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX: y\r\n\r\n",
      "GET http://h/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
      "PUT / HTTP/1.1\r\nHost: [::1]:8\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"};
  int passed = 0;
  for (int i = 0; i < 30000; ++i) {
    const auto text = mutate(seeds[random() % 3], random);
    const auto p = parse(text);
    // Cut in two, it reads the same.
    HeadScanner whole, cut;
    const auto state = whole.scan(text);
    const auto at = random() % (text.size() + 1);
    auto again = at > 0 ? cut.scan(std::string_view(text).substr(0, at)) : HeadScanner::State::more;
    if (again == HeadScanner::State::more) again = cut.scan(text);
    ASSERT_EQ(state, again);
    if (state == HeadScanner::State::complete) {
      ASSERT_EQ(whole.length(), cut.length());
    }
    if (p.refusal.status != 0) continue;
    ++passed;
    const auto& headers = p.request.headers;
    ASSERT_FALSE(headers.has("Content-Length") && headers.has("Transfer-Encoding"));
    ASSERT_LE(headers.all("Content-Length").size(), 1u);
    ASSERT_LE(headers.all("Host").size(), 1u);
    ASSERT_EQ(p.request.path.find('\0'), std::string::npos);
    ASSERT_TRUE(p.request.path == "*" || p.request.path.front() == '/');
    for (const auto& [name, value] : headers) {
      ASSERT_TRUE(is_token(name));
      ASSERT_EQ(value.find_first_of(std::string_view("\r\n\0", 3)), std::string::npos);
    }
    // What was read, written down again, reads the same.
    std::string head = p.request.method + " " + p.request.target + " HTTP/1." +
                       std::to_string(p.request.minor_version) + "\r\n";
    for (const auto& [name, value] : headers) head += name + ": " + value + "\r\n";
    const auto second = parse(head + "\r\n");
    ASSERT_EQ(second.refusal.status, 0);
    ASSERT_EQ(second.framing.content_length, p.framing.content_length);
    ASSERT_EQ(second.framing.chunked, p.framing.chunked);
    ASSERT_EQ(second.framing.keep_alive, p.framing.keep_alive);
  }
  EXPECT_GT(passed, 100);
}

TEST(Fuzz, ChunksReadTheSameHoweverCut) {
  std::mt19937 random(seed());
  const std::string valid = "5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nT: t\r\n\r\n";
  for (int i = 0; i < 30000; ++i) {
    const auto text = mutate(valid, random);
    const auto whole = decode(text), cut = decode(text, 1 + random() % 7);
    ASSERT_EQ(whole.state, cut.state);
    ASSERT_LE(whole.body.size(), 1000u);
    if (whole.state == ChunkDecoder::State::bad) continue;
    ASSERT_EQ(whole.body, cut.body);
    ASSERT_EQ(whole.used, cut.used);
  }
}

// ---- text

TEST(Text, ItemsOfAList) {
  const auto items = [](std::string_view list) {
    std::vector<std::string_view> out;
    for (auto item = next_item(list); !item.empty(); item = next_item(list)) out.push_back(item);
    return out;
  };
  EXPECT_EQ(items("a"), (std::vector<std::string_view>{"a"}));
  EXPECT_EQ(items(", a b ,,\tc\t, "), (std::vector<std::string_view>{"a b", "c"}));
  for (const char* none : {"", " ", ",", " , ,"}) EXPECT_TRUE(items(none).empty()) << none;
}

TEST(Text, PercentAndQuery) {
  EXPECT_EQ(percent_decode("a%2Fb+c"), "a/b+c");
  EXPECT_EQ(percent_decode("a%2fb+c", true), "a/b c");
  for (const char* bad : {"%", "%1", "%zz", "%00", "a%"}) EXPECT_FALSE(percent_decode(bad)) << bad;
  EXPECT_EQ(percent_encode("a b/\xc3\xa9~"), "a%20b%2F%C3%A9~");
  const Pairs expected{{"a", "1 2"}, {"b", ""}, {"c", "=x"}, {"", "d"}, {"e%zz", "%"}};
  EXPECT_EQ(parse_query("a=1+2&b&&c==x&=d&e%zz=%"), expected);
  EXPECT_EQ(query_value("a=1&b=2", "b"), "2");
  EXPECT_FALSE(query_value("a=1", "b"));
}

TEST(Text, HostNames) {
  for (const char* same : {"lab.example", "Lab.Example", "LAB.EXAMPLE:8443", "lab.example.", "lab.example.:80"}) EXPECT_EQ(host_name(same), "lab.example") << same;
  for (const char* same : {"[::1]", "[::1]:52425", "::1"}) EXPECT_EQ(host_name(same), "::1") << same;
  EXPECT_EQ(host_name("[FE80::1]:1"), "fe80::1");
  for (const char* none : {"", ":80", "."}) EXPECT_EQ(host_name(none), "") << none;
}

TEST(Text, CookiesAndDates) {
  EXPECT_EQ(cookie_value("a=1; sid=\"x y\";b", "sid"), "x y");
  EXPECT_EQ(cookie_value("a=1;b=2", "b"), "2");
  EXPECT_FALSE(cookie_value("ab=1", "b"));
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
  EXPECT_EQ(parse_http_date(http_date(4102444800)), 4102444800);  // beyond 2038
  for (const char* bad : {"", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET",
                          "Sun, 06 Xxx 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"})
    EXPECT_FALSE(parse_http_date(bad)) << bad;
}

TEST(Text, Headers) {
  Headers headers;
  headers.add("Vary", "Origin, Accept");
  headers.add("vary", "Cookie");
  EXPECT_TRUE(headers.lists("VARY", "accept"));
  EXPECT_TRUE(headers.lists("vary", "Cookie"));
  EXPECT_FALSE(headers.lists("vary", "Orig"));
  EXPECT_EQ(headers.all("Vary").size(), 2u);
  headers.set("Vary", "x");
  EXPECT_EQ(headers.size(), 1u);
}

TEST(Text, ProblemIsJson) {
  const auto response = problem(Error{Code::call_failed, "a \"quoted\"\nline", R"({"k": 1})"});
  EXPECT_EQ(response.headers.get("Content-Type"), "application/problem+json");
  EXPECT_NE(response.body.find(R"("detail":"a \"quoted\"\u000aline")"), std::string::npos) << response.body;
  EXPECT_NE(response.body.find(R"("more":{"k": 1})"), std::string::npos);
}

// ---- origins

OriginPatterns origins(std::string_view list) {
  auto parsed = OriginPatterns::parse(list);
  EXPECT_TRUE(parsed.ok()) << list;
  return std::move(parsed).value();
}

TEST(Origins, DefaultsAdmitLocalhostOnly) {
  const auto patterns = origins(default_origins);
  for (const char* yes :
       {"http://localhost", "http://localhost:8000", "http://127.0.0.1:1", "HTTP://LocalHost:80"})
    EXPECT_TRUE(patterns.match(yes)) << yes;
  for (const char* no :
       {"http://localhost.evil.com", "http://localhost:8000.evil.com", "https://localhost", "http://evil.com",
        "http://localhost@evil.com", "http://localhost:80@evil.com", "null", "", "http://xlocalhost",
        "http://localhost:", "http://localhost:999999", "http://localhost/x", "http://127.0.0.1.evil.com",
        "http://localhost:8000\r\n", "http://127x0.0.1"})
    EXPECT_FALSE(patterns.match(no)) << no;
  EXPECT_FALSE(patterns.all());
}

TEST(Origins, Globs) {
  const auto patterns = origins("https://*.lab.org , http://node-*.lab:8443,http://[::1]:*");
  for (const char* yes :
       {"https://a.lab.org", "https://a.lab.org:443", "http://node-7.lab:8443", "http://[::1]:3"})
    EXPECT_TRUE(patterns.match(yes)) << yes;
  for (const char* no :
       {"https://lab.org", "https://a.b.lab.org", "https://.lab.org", "https://a.lab.org:444",
        "https://a.lab.org.evil", "http://node-.lab:8443", "http://node-7.lab", "https://aXlab.org"})
    EXPECT_FALSE(patterns.match(no)) << no;
}

TEST(Origins, AllAndExpressions) {
  EXPECT_TRUE(origins("*").match("https://anything"));
  EXPECT_TRUE(origins("*").all());
  const auto patterns = origins(R"(^https://[a-z]{2,3}\.lab\.org$,http://x)");
  EXPECT_TRUE(patterns.match("https://abc.lab.org"));
  EXPECT_TRUE(patterns.match("http://x"));
  EXPECT_FALSE(patterns.match("https://abc.lab.org.evil.com"));
  EXPECT_FALSE(patterns.match("https://abc-lab.org"));
  for (const char* bad :
       {"localhost", "http://", "^http://x", "^($", "*://x", "http://a/b", "http://x:y", "http://**.x"})
    EXPECT_FALSE(OriginPatterns::parse(bad).ok()) << bad;
  EXPECT_FALSE(origins("").match("http://localhost"));
}

}  // namespace
}  // namespace myelin::http

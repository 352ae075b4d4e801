// Microbenchmarks of the codec. The time each should take, on one core, is noted beside it.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codec/encode.hpp"
#include "codec/json_check.hpp"

using namespace myelin;
using namespace myelin::codec;

namespace {

constexpr std::uint64_t n = 1'000'000;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

Rope rope(PieceKind kind, Dtype dtype, const std::string& data) {
  std::string body;
  put(body, std::uint32_t{1});
  put(body, kind);
  put(body, dtype);
  put(body, kind == PieceKind::array ? '\1' : '\0');
  put(body, '\0');
  put(body, std::uint32_t{0});
  put(body, std::uint64_t{data.size()});
  put(body, std::uint64_t{0});
  if (kind == PieceKind::array) put(body, std::uint64_t{data.size() / item_size(dtype)});
  return std::move(*parse_rope(body + data, false, 0));
}

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::vector<std::int64_t> integers() {
  std::mt19937_64 random(1);
  std::vector<std::int64_t> values(n);
  for (auto& v : values) v = static_cast<std::int64_t>(random() % 100'000);
  return values;
}
std::vector<double> times() {
  std::vector<double> values(n);
  for (std::uint64_t i = 0; i < n; ++i) values[i] = static_cast<double>(i) / 10;
  return values;
}
std::vector<double> normal() {
  std::mt19937_64 random(1);
  std::normal_distribution<double> distribution(-65, 5);
  std::vector<double> values(n);
  for (auto& v : values) v = distribution(random);
  return values;
}

void encode(benchmark::State& state, const Rope& of, Format format) {
  std::string out;
  std::size_t bytes = 0;
  for (auto _ : state) {
    Encoder encoder(of, format, Nonfinite::null);
    while (!encoder.done()) {
      out.clear();
      if (!encoder.next(out, 256 * 1024, {})) state.SkipWithError("failed");
      bytes += out.size();
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}

std::string document() {  // like a kernel status: keys, numbers, short strings
  std::string text = "[";
  std::mt19937_64 random(1);
  while (text.size() < 8'000'000) {
    text += "{\"biological_time\":" + std::to_string(static_cast<double>(random() % 100'000) / 10) +
            ",\"recording_backends\":[\"ascii\",\"memory\",\"mpi\"],\"total_num_virtual_procs\":" +
            std::to_string(random() % 64) +
            ",\"use_compressed_spikes\":true,\"max_delay\":-Infinity,\"name\":\"iaf_psc_alpha\"},";
  }
  text.back() = ']';
  return text;
}
std::string numbers() {
  auto text =
      *encode_all(rope(PieceKind::array, Dtype::f64, raw(normal())), Format::json, Nonfinite::null, {});
  return text;
}

void check(benchmark::State& state, const std::string& text) {
  for (auto _ : state)
    if (!check_json(text)) state.SkipWithError("refused");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
}

void check_document(benchmark::State& state) { check(state, document()); }  // ≥ 300 MB/s
void check_numbers(benchmark::State& state) { check(state, numbers()); }    // ≥ 300 MB/s
void check_string(benchmark::State& state) {
  check(state, '"' + std::string(8'000'000, 'x') + '"');
}  // memory speed
void json_int64(benchmark::State& state) {
  encode(state, rope(PieceKind::array, Dtype::i64, raw(integers())), Format::json);
}  // ~6 ms
void json_times(benchmark::State& state) {
  encode(state, rope(PieceKind::array, Dtype::f64, raw(times())), Format::json);
}  // ~11 ms
void json_normal(benchmark::State& state) {
  encode(state, rope(PieceKind::array, Dtype::f64, raw(normal())), Format::json);
}  // ~43 ms
void cbor_float64(benchmark::State& state) {
  encode(state, rope(PieceKind::array, Dtype::f64, raw(normal())), Format::cbor);
}  // ~2 ms
void cbor_document(benchmark::State& state) {
  encode(state, rope(PieceKind::text, Dtype::none, document()), Format::cbor);
}
void cbor_numbers(benchmark::State& state) {
  encode(state, rope(PieceKind::text, Dtype::none, numbers()), Format::cbor);
}

BENCHMARK(check_document)->Unit(benchmark::kMillisecond);
BENCHMARK(check_numbers)->Unit(benchmark::kMillisecond);
BENCHMARK(check_string)->Unit(benchmark::kMillisecond);
BENCHMARK(json_int64)->Unit(benchmark::kMillisecond);
BENCHMARK(json_times)->Unit(benchmark::kMillisecond);
BENCHMARK(json_normal)->Unit(benchmark::kMillisecond);
BENCHMARK(cbor_float64)->Unit(benchmark::kMillisecond);
BENCHMARK(cbor_document)->Unit(benchmark::kMillisecond);
BENCHMARK(cbor_numbers)->Unit(benchmark::kMillisecond);

}  // namespace

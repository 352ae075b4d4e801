#include "codec/encode.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <type_traits>

#include "codec/bytes.hpp"
#include "codec/cbor.hpp"
#include "codec/number.hpp"

namespace myelin::codec {
namespace {

constexpr std::size_t window_bytes = 64 * 1024;  // of memfd data read at once; a multiple of every item size
constexpr std::size_t batch = 256;               // elements written to the scratch buffer at once

// Chooses between the two writers of doubles. Both give the same text, so this is about time only: the first
// writer is 4 times faster on values of a 0.001 grid and in vain on others. It is tried on 1,000 values; when
// it fails on most, it rests for 64,000.
class GridChoice {
 public:
  char* write(char* p, double v) {
    if (rest_ != 0) {
      --rest_;
      return write_double(p, v);
    }
    char* end = write_on_grid(p, v);
    hits_ += end != nullptr ? 1 : 0;
    if (++tried_ == 1000) {
      if (hits_ < 500) rest_ = 64'000;
      tried_ = hits_ = 0;
    }
    return end != nullptr ? end : write_double(p, v);
  }

 private:
  unsigned tried_ = 0, hits_ = 0, rest_ = 0;
};

// An array as nested lists: which brackets stand before element i.
struct Nesting {
  std::size_t depth = 0;       // lists around each element
  std::uint64_t elements = 0;  // to write; of an empty array its innermost, empty lists
  std::uint64_t row = 0;       // elements of an innermost list
  std::array<std::uint64_t, max_dimensions> block{};  // [d]: elements of a list d levels above the elements
  bool empty = false;                                 // a dimension is 0, an element is "[]"

  explicit Nesting(const Piece& piece) {
    depth = piece.ndim;
    for (std::size_t i = 0; i < piece.ndim; ++i) {
      if (piece.shape[i] != 0) continue;
      empty = true;
      depth = i;
      break;
    }
    elements = 1;
    for (std::size_t i = depth; i-- > 0;) {
      elements *= piece.shape[i];
      block[depth - 1 - i] = elements;
    }
    row = depth == 0 ? 1 : block[0];
  }

  // Element i starts a row: ends the lists before it, begins its own. Needs 2 * depth + 1 characters.
  char* between(char* p, std::uint64_t i) const {
    std::size_t lists = depth;
    if (i != 0) {
      lists = 0;
      while (lists < depth && i % block[lists] == 0) ++lists;
      p = std::fill_n(p, lists, ']');
      *p++ = ',';
    }
    return std::fill_n(p, lists, '[');
  }
};

template <class T>
struct Element {
  Nonfinite nonfinite;
  GridChoice& grid;

  char* operator()(char* p, const char* data) const {
    const T value = load<T>(data);
    if constexpr (std::is_floating_point_v<T>) {
      const double v = value;
      if (std::isfinite(v)) [[likely]]
        return grid.write(p, v);
      return literal(p, nonfinite == Nonfinite::null ? "null" : nonfinite_name(v));
    } else {
      return write_integer(p, value);
    }
  }
  static char* literal(char* p, std::string_view text) { return std::copy(text.begin(), text.end(), p); }
};

// Appends elements i… of an array, up to `count`, whose bytes start at data.
template <std::size_t item, class Write>
void append_elements(std::string& out, const Nesting& nesting, std::uint64_t i, std::uint64_t count,
                     const char* data, const Write& write) {
  std::array<char, batch*(max_number_chars + 2 * max_dimensions + 2)> scratch;
  while (count != 0) {
    char* p = scratch.data();
    std::uint64_t room = std::min<std::uint64_t>(count, batch);
    count -= room;
    std::uint64_t in_row = nesting.row == nesting.elements ? i : i % nesting.row;
    while (room != 0) {
      std::uint64_t n = std::min(room, nesting.row - in_row);
      room -= n;
      if (in_row == 0) {
        p = write(nesting.between(p, i), data);
        data += item;
        ++i;
        --n;
      }
      i += n;
      for (; n != 0; --n, data += item) {
        *p++ = ',';
        p = write(p, data);
      }
      in_row = 0;
    }
    out.append(scratch.data(), p);
  }
}

int cbor_tag(Dtype dtype) {  // RFC 8746, section 2.1
  switch (dtype) {
    case Dtype::u8:
      return 64;
    case Dtype::u16:
      return 69;
    case Dtype::u32:
      return 70;
    case Dtype::u64:
      return 71;
    case Dtype::i8:
      return 72;
    case Dtype::i16:
      return 77;
    case Dtype::i32:
      return 78;
    case Dtype::i64:
      return 79;
    case Dtype::f32:
      return 85;
    case Dtype::f64:
      return 86;
    case Dtype::boolean:
    case Dtype::none:
      break;
  }
  return -1;
}

}  // namespace

struct Encoder::Impl {
  const Rope& rope;
  Format format;
  Nonfinite nonfinite;
  bool done = false;
  std::size_t index = 0;    // the piece
  std::uint64_t at = 0;     // bytes of it that were used; of an empty array the lists written
  bool begun = false;       // the piece's head was written
  std::string window = {};  // memfd data [window_at, + size) of the piece
  std::uint64_t window_at = 0;
  GridChoice grid = {};
  CborTranscoder transcoder = {};

  [[nodiscard]] const Piece& piece() const { return rope.pieces()[index]; }

  void next_piece() {
    ++index;
    at = 0;
    begun = false;
    window.clear();
    grid = {};
  }

  static Result<void> read_all(const Reader& read, std::uint64_t offset, std::span<char> into) {
    while (!into.empty()) {
      auto n = read(offset, into);
      if (!n) return n.take_error();
      if (*n == 0 || *n > into.size())
        return Error{Code::worker_lost, "The session's result ends before its data does.", ""};
      into = into.subspan(*n);
      offset += *n;
    }
    return {};
  }

  // The piece's data from `at` on, at least one item and as much as is at hand.
  Result<std::string_view> data(const Reader& read) {
    const Piece& p = piece();
    if (p.where == Where::inline_data) return rope.inline_data(p).substr(at);
    if (at < window_at || at >= window_at + window.size()) {
      window.resize(std::min<std::uint64_t>(window_bytes, p.bytes - at));
      window_at = at;
      if (auto done_reading = read_all(read, p.offset + at, window); !done_reading) {
        window.clear();
        return done_reading.take_error();
      }
    }
    return std::string_view(window).substr(at - window_at);
  }

  // Appends the piece's bytes as they are, up to `most`.
  Result<void> copy(std::string& out, std::size_t most, const Reader& read) {
    const Piece& p = piece();
    const std::size_t n = std::min<std::uint64_t>(most, p.bytes - at);
    if (p.where == Where::inline_data) {
      out.append(rope.inline_data(p).substr(at, n));
    } else {
      const std::size_t size = out.size();
      out.resize(size + n);
      if (auto got = read_all(read, p.offset + at, {out.data() + size, n}); !got) {
        out.resize(size);
        return got;
      }
    }
    at += n;
    return {};
  }

  Result<void> text(std::string& out, std::size_t most, const Reader& read) {
    if (at == piece().bytes) {
      next_piece();
      return {};
    }
    if (format == Format::json) return copy(out, most, read);
    auto chunk = data(read);
    if (!chunk) return chunk.take_error();
    const auto part = chunk->substr(0, std::min(most, window_bytes));
    at += part.size();
    return transcoder.feed(part, out);
  }

  Result<void> json_array(std::string& out, std::size_t most, const Reader& read) {
    const Piece& p = piece();
    const Nesting nesting(p);
    const std::size_t item = nesting.empty ? 1 : item_size(p.dtype);
    const std::uint64_t i = at / item;
    const std::uint64_t wanted = std::min(most, window_bytes) / 16 + 1;  // a guess: 16 characters each
    std::uint64_t count = std::min(nesting.elements - i, wanted);
    std::string_view bytes;
    if (!nesting.empty) {
      auto got = data(read);
      if (!got) return got.take_error();
      bytes = *got;
      count = std::min<std::uint64_t>(count, bytes.size() / item);
    }
    const auto run = [&]<class T>(T) {
      append_elements<sizeof(T)>(out, nesting, i, count, bytes.data(), Element<T>{nonfinite, grid});
    };
    if (nesting.empty) {
      append_elements<0>(out, nesting, i, count, nullptr, [](char* q, const char*) {
        *q++ = '[';
        *q++ = ']';
        return q;
      });
    } else {
      switch (p.dtype) {
        case Dtype::none:
          break;
        case Dtype::i8:
          run(std::int8_t{});
          break;
        case Dtype::i16:
          run(std::int16_t{});
          break;
        case Dtype::i32:
          run(std::int32_t{});
          break;
        case Dtype::i64:
          run(std::int64_t{});
          break;
        case Dtype::u8:
          run(std::uint8_t{});
          break;
        case Dtype::u16:
          run(std::uint16_t{});
          break;
        case Dtype::u32:
          run(std::uint32_t{});
          break;
        case Dtype::u64:
          run(std::uint64_t{});
          break;
        case Dtype::f32:
          run(float{});
          break;
        case Dtype::f64:
          run(double{});
          break;
        case Dtype::boolean:
          append_elements<1>(out, nesting, i, count, bytes.data(), [](char* q, const char* data_at) {
            return Element<std::uint8_t>::literal(q, *data_at != 0 ? "true" : "false");
          });
          break;
      }
    }
    at += count * item;
    if (i + count == nesting.elements) {
      out.append(nesting.depth, ']');
      next_piece();
    }
    return {};
  }

  Result<void> cbor_array(std::string& out, std::size_t most, const Reader& read) {
    const Piece& p = piece();
    if (!begun) {
      begun = true;
      if (auto allowed = transcoder.value_follows(out); !allowed) return allowed;
      if (p.ndim > 1) {
        append_cbor_head(out, CborMajor::tag, 40);
        append_cbor_head(out, CborMajor::array, 2);
        append_cbor_head(out, CborMajor::array, p.ndim);
        for (std::size_t i = 0; i < p.ndim; ++i) append_cbor_head(out, CborMajor::unsigned_, p.shape[i]);
      }
      if (p.dtype == Dtype::boolean) {
        append_cbor_head(out, CborMajor::array, p.bytes);
      } else {
        append_cbor_head(out, CborMajor::tag, static_cast<std::uint64_t>(cbor_tag(p.dtype)));
        append_cbor_head(out, CborMajor::bytes, p.bytes);
      }
    } else if (p.dtype == Dtype::boolean) {
      auto got = data(read);
      if (!got) return got.take_error();
      const auto part = got->substr(0, std::min(most, window_bytes));
      for (const char c : part) out += c != 0 ? '\xf5' : '\xf4';
      at += part.size();
    } else if (auto copied = copy(out, most, read); !copied) {
      return copied;
    }
    if (at == p.bytes) next_piece();
    return {};
  }

  Result<void> next(std::string& out, std::size_t target, const Reader& read) {
    const std::size_t start = out.size();
    target = std::max<std::size_t>(target, 1);
    while (index < rope.pieces().size() && out.size() - start < target) {
      const std::size_t most = target - (out.size() - start);
      auto step = piece().kind == PieceKind::text ? text(out, most, read)
                  : format == Format::json        ? json_array(out, most, read)
                                                  : cbor_array(out, most, read);
      if (!step) return step;
    }
    // Empty texts at the end give no bytes: a caller need not come back for them.
    while (index < rope.pieces().size() && piece().kind == PieceKind::text && at == piece().bytes)
      next_piece();
    if (index == rope.pieces().size() && !done) {
      if (format == Format::cbor)
        if (auto finished = transcoder.finish(out); !finished) return finished;
      done = true;
    }
    return {};
  }
};

Encoder::Encoder(const Rope& rope, Format format, Nonfinite nonfinite)
    : impl_(std::make_unique<Impl>(Impl{rope, format, nonfinite})) {}
Encoder::Encoder(Encoder&&) noexcept = default;
Encoder& Encoder::operator=(Encoder&&) noexcept = default;
Encoder::~Encoder() = default;

bool Encoder::done() const { return impl_->done; }

Result<void> Encoder::next(std::string& out, std::size_t target_bytes, const Reader& read) {
  return impl_->next(out, target_bytes, read);
}

Result<std::string> encode_all(const Rope& rope, Format format, Nonfinite nonfinite, const Reader& read) {
  if (format == Format::json)
    if (const auto text = rope.single_text()) return std::string(*text);
  std::string out;
  Encoder encoder(rope, format, nonfinite);
  while (!encoder.done())
    if (auto step = encoder.next(out, 1024 * 1024, read); !step) return step.take_error();
  return out;
}

}  // namespace myelin::codec

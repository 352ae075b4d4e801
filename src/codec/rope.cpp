#include "codec/rope.hpp"

#include <limits>

#include "codec/bytes.hpp"
#include "codec/scan.hpp"

namespace myelin::codec {
namespace {

constexpr std::size_t piece_head = 24;  // bytes of a piece's entry before its shape
// Pieces may share data. A bound on the text so multiplied keeps a hostile body of 1 MiB from costing seconds
// here.
constexpr std::uint64_t max_shared_text = 16 * 1024 * 1024;

// nullptr, or what is wrong with the piece's shape.
const char* shape_error(const Piece& piece) {
  if (piece.dtype == Dtype::none || piece.dtype > Dtype::boolean) return "unknown dtype";
  std::uint64_t bytes = item_size(piece.dtype);
  std::uint64_t lists = 1;
  for (std::size_t i = 0; i < piece.ndim; ++i) {
    if (piece.shape[i] == 0) {
      if (piece.bytes != 0) return "shape and bytes differ";
      return lists > max_empty_lists ? "too many empty lists" : nullptr;
    }
    if (__builtin_mul_overflow(lists, piece.shape[i], &lists)) return "the shape is too large";
  }
  if (__builtin_mul_overflow(bytes, lists, &bytes)) return "the shape is too large";
  return bytes == piece.bytes ? nullptr : "shape and bytes differ";
}

}  // namespace

std::size_t item_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::none:
      return 0;
    case Dtype::i8:
    case Dtype::u8:
    case Dtype::boolean:
      return 1;
    case Dtype::i16:
    case Dtype::u16:
      return 2;
    case Dtype::i32:
    case Dtype::u32:
    case Dtype::f32:
      return 4;
    case Dtype::i64:
    case Dtype::u64:
    case Dtype::f64:
      return 8;
  }
  return 0;
}

std::string_view Rope::inline_data(const Piece& piece) const {
  return std::string_view(body_).substr(payload_ + piece.offset, piece.bytes);
}

std::optional<std::string_view> Rope::single_text() const {
  if (pieces_.size() != 1 || pieces_[0].kind != PieceKind::text || pieces_[0].where != Where::inline_data)
    return std::nullopt;
  return inline_data(pieces_[0]);
}

std::uint64_t Rope::data_bytes() const {
  std::uint64_t sum = 0;
  for (const Piece& piece : pieces_)
    if (__builtin_add_overflow(sum, piece.bytes, &sum)) return std::numeric_limits<std::uint64_t>::max();
  return sum;
}

Result<Rope> parse_rope(std::string body, bool has_memfd, std::uint64_t memfd_size) {
  const auto broken = [](std::string what) {
    return Error{Code::worker_lost, "The session sent a broken result: " + std::move(what), ""};
  };
  Rope rope;
  rope.body_ = std::move(body);
  const std::string& bytes = rope.body_;
  if (bytes.size() < 4) return broken("shorter than its head");
  const auto count = load<std::uint32_t>(bytes.data());
  if (count == 0) return broken("no pieces");
  if (count > max_pieces) return broken("too many pieces");
  if ((bytes.size() - 4) / piece_head < count) return broken("its pieces exceed it");
  rope.pieces_.reserve(count);
  std::size_t at = 4;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto wrong = [&](const char* what) { return broken("piece " + std::to_string(i) + ": " + what); };
    if (bytes.size() - at < piece_head) return wrong("exceeds the rope");
    const char* p = bytes.data() + at;
    at += piece_head;
    Piece piece;
    piece.kind = PieceKind{load<std::uint8_t>(p)};
    piece.dtype = Dtype{load<std::uint8_t>(p + 1)};
    piece.ndim = load<std::uint8_t>(p + 2);
    piece.where = Where{load<std::uint8_t>(p + 3)};
    if (load<std::uint32_t>(p + 4) != 0) return wrong("a field that must be zero is not");
    piece.bytes = load<std::uint64_t>(p + 8);
    piece.offset = load<std::uint64_t>(p + 16);
    if (piece.kind == PieceKind::text) {
      if (piece.dtype != Dtype::none || piece.ndim != 0) return wrong("a text with a dtype or a shape");
    } else if (piece.kind == PieceKind::array) {
      if (piece.ndim < 1 || piece.ndim > max_dimensions) return wrong("not 1 to 8 dimensions");
      if ((bytes.size() - at) / 8 < piece.ndim) return wrong("exceeds the rope");
      for (std::size_t k = 0; k < piece.ndim; ++k, at += 8)
        piece.shape[k] = load<std::uint64_t>(bytes.data() + at);
      if (const char* what = shape_error(piece)) return wrong(what);
    } else {
      return wrong("unknown kind");
    }
    if (piece.where == Where::memfd) {
      if (!has_memfd) return wrong("in a memfd that did not come");
      if (piece.offset > memfd_size || piece.bytes > memfd_size - piece.offset)
        return wrong("exceeds the memfd");
    } else if (piece.where != Where::inline_data) {
      return wrong("unknown place");
    }
    rope.pieces_.push_back(piece);
  }
  rope.payload_ = at;
  const std::uint64_t payload = bytes.size() - at;
  std::uint64_t texts = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Piece& piece = rope.pieces_[i];
    if (piece.where != Where::inline_data) continue;
    const auto wrong = [&](const char* what) { return broken("piece " + std::to_string(i) + ": " + what); };
    if (piece.offset > payload || piece.bytes > payload - piece.offset) return wrong("exceeds the payload");
    const std::string_view data = rope.inline_data(piece);
    if (piece.kind != PieceKind::text) continue;
    texts += data.size();  // each at most the payload, and few enough: no overflow
    if (texts > payload + max_shared_text) return wrong("its text is used too often");
    if (!scan::valid_utf8(data.data(), data.data() + data.size())) return wrong("not UTF-8");
  }
  return rope;
}

std::string text_rope(std::string_view json) {
  std::string body(4 + piece_head, '\0');
  store(body.data(), std::uint32_t{1});
  store(body.data() + 12, static_cast<std::uint64_t>(json.size()));
  return body.append(json);
}

Result<Rope> with_member_in_front(const std::string& body, std::string_view member) {
  auto checked = parse_rope(body, false, 0);
  if (!checked) return checked;
  const auto& pieces = checked->pieces();
  if (pieces[0].kind != PieceKind::text || !checked->inline_data(pieces[0]).starts_with("{\""))
    return Error{Code::worker_lost, "the rope is no object", ""};
  // One more piece in front, whose text stands behind the payload: no other piece moves. The first loses its brace.
  std::size_t payload = 4;
  for (const Piece& piece : pieces) payload += piece_head + 8 * std::size_t{piece.ndim};
  std::string out(4 + piece_head, '\0');
  store(out.data(), static_cast<std::uint32_t>(pieces.size() + 1));
  store(out.data() + 12, static_cast<std::uint64_t>(member.size() + 2));
  store(out.data() + 20, static_cast<std::uint64_t>(body.size() - payload));
  out.append(body, 4, std::string::npos);
  char* first = out.data() + 4 + piece_head;
  store(first + 8, pieces[0].bytes - 1);
  store(first + 16, pieces[0].offset + 1);
  out.append("{").append(member).append(",");
  return parse_rope(std::move(out), false, 0);
}

Result<Rope> make_rope(std::vector<Piece> pieces, std::uint64_t size) {
  const auto broken = [](std::size_t i, const char* what) {
    return Error{Code::internal, "piece " + std::to_string(i) + " of a stored result: " + what, ""};
  };
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Piece& piece = pieces[i];
    piece.where = Where::memfd;
    if (piece.kind == PieceKind::array) {
      if (piece.ndim < 1 || piece.ndim > max_dimensions) return broken(i, "not 1 to 8 dimensions");
      if (const char* what = shape_error(piece)) return broken(i, what);
    }
    if (piece.offset > size || piece.bytes > size - piece.offset) return broken(i, "exceeds the data");
  }
  Rope rope;
  rope.pieces_ = std::move(pieces);
  return rope;
}

}  // namespace myelin::codec

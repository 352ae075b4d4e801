#pragma once
// Ropes (worker protocol, section 5): the text of one JSON document in pieces, with raw arrays between them.
// The worker is not trusted: a Rope exists only when every count, size and bound in it is consistent and each
// inline text is UTF-8. Text in a memfd is not read here, and no text is checked to be JSON.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace myelin::codec {

enum class PieceKind : std::uint8_t { text = 0, array = 1 };
enum class Dtype : std::uint8_t { none = 0, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, boolean };
enum class Where : std::uint8_t { inline_data = 0, memfd = 1 };

inline constexpr std::size_t max_pieces = 65'536;
inline constexpr std::size_t max_dimensions = 8;
inline constexpr std::uint64_t max_empty_lists =
    1 << 24;  // an array of shape (n, 0) has no data, but n empty lists

struct Piece {
  PieceKind kind = PieceKind::text;
  Dtype dtype = Dtype::none;
  Where where = Where::inline_data;
  std::uint8_t ndim = 0;                              // 0 for text, else 1…8
  std::array<std::uint64_t, max_dimensions> shape{};  // the first ndim count, C order
  std::uint64_t bytes = 0;                            // of the data
  std::uint64_t offset = 0;                           // from the start of the payload or of the memfd
};

/// Bytes of one element; 0 for none.
[[nodiscard]] std::size_t item_size(Dtype dtype);

class Rope {
 public:
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
  /// The data of an inline piece.
  [[nodiscard]] std::string_view inline_data(const Piece& piece) const;
  /// The whole document, when it is one inline text: it can be sent as it is.
  [[nodiscard]] std::optional<std::string_view> single_text() const;
  /// Bytes of data in all pieces together.
  [[nodiscard]] std::uint64_t data_bytes() const;

 private:
  friend Result<Rope> parse_rope(std::string, bool, std::uint64_t);
  friend Result<Rope> make_rope(std::vector<Piece>, std::uint64_t);
  std::vector<Piece> pieces_;
  std::string body_;
  std::size_t payload_ = 0;  // where in body_ the payload starts
};

/// Takes the body of a `result` frame. `memfd_size` counts only with `has_memfd`. Errors are worker_lost and
/// say what.
[[nodiscard]] Result<Rope> parse_rope(std::string body, bool has_memfd, std::uint64_t memfd_size);

/// The body of a rope that is this JSON text.
[[nodiscard]] std::string text_rope(std::string_view json);
/// The rope of `body`, whose text begins with an object's `{"`, with one more member (`"name":value`) in front.
[[nodiscard]] Result<Rope> with_member_in_front(const std::string& body, std::string_view member);

/// A rope of the server's own whose data is all behind a Reader that has `size` bytes. `where` is set here; shapes
/// and bounds are checked as above (Code::internal).
[[nodiscard]] Result<Rope> make_rope(std::vector<Piece> pieces, std::uint64_t size);

}  // namespace myelin::codec

#pragma once
// The head of a .npy file, format 1.0 (NumPy enhancement proposal 1): little-endian, C order. It always takes
// 256 bytes, so that it can be written after the data, and depends on nothing but dtype and shape: equal
// files are equal arrays.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "codec/rope.hpp"

namespace myelin::codec {

inline constexpr std::size_t npy_head_bytes = 256;

[[nodiscard]] std::string npy_head(Dtype dtype, std::span<const std::uint64_t> shape);
/// "float64", "int8", "bool", …: NumPy's names.
[[nodiscard]] std::string_view name_of(Dtype dtype);
[[nodiscard]] std::optional<Dtype> dtype_of(std::string_view name);

}  // namespace myelin::codec

#include "codec/npy.hpp"

#include <array>

namespace myelin::codec {
namespace {

struct Names {
  std::string_view name, descr;
};
constexpr std::array<Names, 12> names = {{{"none", "|V0"},
                                          {"int8", "|i1"},
                                          {"int16", "<i2"},
                                          {"int32", "<i4"},
                                          {"int64", "<i8"},
                                          {"uint8", "|u1"},
                                          {"uint16", "<u2"},
                                          {"uint32", "<u4"},
                                          {"uint64", "<u8"},
                                          {"float32", "<f4"},
                                          {"float64", "<f8"},
                                          {"bool", "|b1"}}};

}  // namespace

std::string npy_head(Dtype dtype, std::span<const std::uint64_t> shape) {
  std::string head("\x93NUMPY\x01\x00", 8);
  constexpr auto rest = npy_head_bytes - 10;
  head += static_cast<char>(rest & 0xff);
  head += static_cast<char>(rest >> 8);
  head += "{'descr': '";
  head += names[static_cast<std::size_t>(dtype)].descr;
  head += "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) head += ' ';
    head += std::to_string(shape[i]) + (i + 1 < shape.size() || shape.size() == 1 ? "," : "");
  }
  head += "), }";
  head.resize(npy_head_bytes - 1, ' ');  // eight dimensions of 20 digits fit
  head += '\n';
  return head;
}

std::string_view name_of(Dtype dtype) { return names[static_cast<std::size_t>(dtype)].name; }

std::optional<Dtype> dtype_of(std::string_view name) {
  for (std::size_t i = 1; i < names.size(); ++i)
    if (names[i].name == name) return static_cast<Dtype>(i);
  return std::nullopt;
}

}  // namespace myelin::codec

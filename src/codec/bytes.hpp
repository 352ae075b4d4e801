#pragma once
// Integers in byte order, by memcpy. Internal to this room.

#include <bit>
#include <cstdint>
#include <cstring>

namespace myelin::codec {

static_assert(std::endian::native == std::endian::little,
              "frames, ropes and typed arrays are copied as they are");

template <class T>
T load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void store(char* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

}  // namespace myelin::codec

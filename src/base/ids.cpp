#include "base/ids.hpp"

#include <sodium.h>

#include <stdexcept>
#include <vector>

namespace myelin {

std::string random_hex(std::size_t bytes) {
  if (sodium_init() < 0) throw std::runtime_error("no system random source");
  std::vector<unsigned char> raw(bytes);
  randombytes_buf(raw.data(), raw.size());
  std::string out(bytes * 2 + 1, '\0');
  sodium_bin2hex(out.data(), out.size(), raw.data(), raw.size());
  out.pop_back();
  return out;
}

std::string make_id(const char* prefix) { return prefix + random_hex(12); }

}  // namespace myelin

// Eight lanes without AVX-512: how rows are turned for eight lanes is then tested on every machine.
#include "cell/kernel_step.hpp"

namespace myelin::cell::test {

const Kernel& kernel_wide() {
  static constexpr Kernel kernel{"wide", 8, 2, &Step<8>::advance_any, &Step<8>::rates};
  return kernel;
}

}  // namespace myelin::cell::test

#include "cell/kernel_step.hpp"

namespace myelin::cell {

const Kernel& kernel_v4() {
  static constexpr Kernel kernel{"x86-64-v4", 8, 2, &Step<8>::advance_any, &Step<8>::rates};
  return kernel;
}

}  // namespace myelin::cell

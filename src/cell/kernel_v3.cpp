#include "cell/kernel_step.hpp"

namespace myelin::cell {

const Kernel& kernel_v3() {
  static constexpr Kernel kernel{"x86-64-v3", 4, 3, &Step<4>::advance_any, &Step<4>::rates};
  return kernel;
}

}  // namespace myelin::cell

#include "cell/kernel_step.hpp"

namespace myelin::cell {

const Kernel& kernel_portable() {
  static constexpr Kernel kernel{"portable", 2, 1, &Step<2>::advance_any, &Step<2>::rates};
  return kernel;
}

}  // namespace myelin::cell

#define LUCID_TARGET avx2
#include "kernels_target.h"

namespace lucid {

const Kernels& avx2_kernels() {
    static const Kernels found = avx2::kernels("avx2");
    return found;
}

}  // namespace lucid

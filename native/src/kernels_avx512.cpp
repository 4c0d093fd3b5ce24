#define LUCID_TARGET avx512
#include "kernels_target.h"

namespace lucid {

const Kernels& avx512_kernels() {
    static const Kernels found = avx512::kernels("avx512");
    return found;
}

}  // namespace lucid

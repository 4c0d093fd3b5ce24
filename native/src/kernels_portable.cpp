#define LUCID_TARGET portable
#include "kernels_target.h"

namespace lucid {

const Kernels& portable_kernels() {
    static const Kernels found = portable::kernels("portable");
    return found;
}

}  // namespace lucid

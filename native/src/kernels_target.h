// All kernels, compiled for one instruction set: the including file names it.

#pragma once

#include <iterator>

#include "attention.h"
#include "kernels.h"
#include "product.h"
#include "rows.h"

namespace lucid::LUCID_TARGET {

using Product = void (*)(const Matrix&, int, const Activations&, int, float*, int);

// What fits into registers: tiles of W that are multiplied at once with so many rows of x
constexpr int TILES = REGISTER == 64 ? 2 : 1;
constexpr int ROWS[] = {6, 4, 2, 1};

// One product for each number of rows at once. A single row is multiplied with one tile after the
// other: W is then read once, from end to end, as memory is fastest.
struct Products {
    Product of[std::size(ROWS)];
    Product single;
};

template <template <int, int> class Of>
constexpr Products products() {
    return {{Of<6, TILES>::run, Of<4, TILES>::run, Of<2, TILES>::run, Of<1, TILES>::run}, Of<1, 1>::run};
}

template <class Weights>
struct OfFloats {
    template <int R, int T>
    struct Of {
        static constexpr Product run = product_floats<Weights, R, T>;
    };
};
template <int R, int T>
struct OfBfloats {
    static constexpr Product run = product_bfloats<R, T>;
};
template <int BITS, int PER_SCALE, bool LEAST, bool NESTED>
struct OfInts {
    template <int R, int T>
    struct Of {
        static constexpr Product run = product_ints<BITS, PER_SCALE, LEAST, NESTED, R, T>;
    };
};

// Those of GGUF's blocks: Q4_0 Q5_0, Q4_1 Q5_1, Q4_K Q5_K
template <int BITS>
const Products& of_ints(const Matrix& m) {
    static constexpr Products plain = products<OfInts<BITS, 32, false, false>::template Of>();
    static constexpr Products least = products<OfInts<BITS, 32, true, false>::template Of>();
    static constexpr Products nested = products<OfInts<BITS, 32, true, true>::template Of>();
    return m.nested ? nested : m.has_least ? least : plain;
}

inline const Products& products_of(const Matrix& m) {
    static constexpr Products of_floats = products<OfFloats<Floats>::Of>();
    static constexpr Products of_halves = products<OfFloats<Halves>::Of>();
    static constexpr Products of_bfloats = products<OfBfloats>();
    static constexpr Products of_six = products<OfInts<6, 16, false, true>::Of>();  // Q6_K
    static constexpr Products of_eight = products<OfInts<8, 32, false, false>::Of>();  // Q8_0
    switch (m.format) {
        case Format::F32: return of_floats;
        case Format::F16: return of_halves;
        case Format::BF16: return of_bfloats;
        case Format::INTS: break;
    }
    switch (m.bits) {
        case 4: return of_ints<4>(m);
        case 5: return of_ints<5>(m);
        case 6: return of_six;
        default: return of_eight;
    }
}

inline void product(const Matrix& m, int tile, int end, const Activations& x, float* y, int stride) {
    const Products& run = products_of(m);
    if (x.rows == 1) {
        for (; tile < end; ++tile) run.single(m, tile, x, 0, y + tile * TILE, stride);
        return;
    }
    for (; tile < end; tile += TILES) {
        int row = 0;
        for (std::size_t which = 0; which < std::size(ROWS); ++which)
            for (; x.rows - row >= ROWS[which]; row += ROWS[which])
                run.of[which](m, tile, x, row, y + std::size_t(row) * stride + tile * TILE, stride);
    }
}

inline Kernels kernels(const char* name) {
#if defined(__AVX512BF16__)
    constexpr bool dots_bfloats = true;
#else
    constexpr bool dots_bfloats = false;
#endif
    return {name,  dots_bfloats, product,  mean,  deviation, normalize, weigh, rotate, add,
            multiply, activate, round_to_bfloats, round_to_ints, score, softmax, mix};
}

}  // namespace lucid::LUCID_TARGET

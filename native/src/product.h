// Matrix products: y (rows, outs) = x (rows, columns) times W (outs, columns) transposed.
//
// Sixteen outs are the lanes of a vector; a column's weights are multiplied with one number of x,
// broadcast, and added to the lanes. Each out is a sum over its columns in their order, in blocks of
// fixed size, whatever number of rows or tiles are computed together: so the bits of a result depend
// on its own operands alone. The loops below only choose how much is kept in registers at once.

#pragma once

#include "dots.h"
#include "matrix.h"
#include "vector.h"

namespace lucid::LUCID_TARGET {

// Columns after which a sum of products is put aside and a new one begun: sums of sums lose less.
constexpr int BLOCK = 64;

// --- what one format's weights are, and what a few columns of them add -----------------------------

struct Floats {
    const float* tile = nullptr;
    Floats() = default;
    Floats(const Matrix& m, int at) : tile(m.values.as<float>() + std::size_t(at) * m.padded() * TILE) {}
    F32 weights(int column) const { return load<F32>(tile + column * TILE); }
};

struct Halves {
    const std::uint16_t* tile = nullptr;
    Halves() = default;
    Halves(const Matrix& m, int at)
        : tile(m.values.as<std::uint16_t>() + std::size_t(at) * m.padded() * TILE) {}
    F32 weights(int column) const { return halves(tile + column * TILE); }
};

// W in float32 or float16, x in float32: sum = w * x + sum, for one column after the other
template <class Weights, int R, int T>
void product_floats(const Matrix& m, int tile, const Activations& x, int row, float* y, int stride) {
    Weights weights[T];
    for (int t = 0; t < T; ++t) weights[t] = Weights(m, tile + t);
    const float* from[R];
    for (int r = 0; r < R; ++r) from[r] = x.floats + std::size_t(row + r) * x.width;
    F32 total[R][T] = {};
    for (int begin = 0; begin < m.padded(); begin += BLOCK) {
        int end = begin + BLOCK < m.padded() ? begin + BLOCK : m.padded();
        F32 part[R][T] = {};
        for (int column = begin; column < end; ++column) {
            F32 w[T];
            for (int t = 0; t < T; ++t) w[t] = weights[t].weights(column);
            for (int r = 0; r < R; ++r)
                for (int t = 0; t < T; ++t) part[r][t] = fma(w[t], all(from[r][column]), part[r][t]);
        }
        for (int r = 0; r < R; ++r)
            for (int t = 0; t < T; ++t) total[r][t] += part[r][t];
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) store(y + std::size_t(r) * stride + t * TILE, total[r][t]);
}

// W in bfloat16. With instructions for it x is bfloat16 too, and sum = w0 * x0 + w1 * x1 + sum (the
// two products are not rounded, and numbers below the normal ones are 0); else x is float32.
template <int R, int T>
void product_bfloats(const Matrix& m, int tile, const Activations& x, int row, float* y, int stride) {
    const std::uint16_t* weights[T];
    for (int t = 0; t < T; ++t)
        weights[t] = m.values.as<std::uint16_t>() + std::size_t(tile + t) * m.padded() * TILE;
    F32 total[R][T] = {};
#if defined(__AVX512BF16__)
    const std::uint16_t* from[R];
    for (int r = 0; r < R; ++r) from[r] = x.bfloats + std::size_t(row + r) * x.width;
#else
    const float* from[R];
    for (int r = 0; r < R; ++r) from[r] = x.floats + std::size_t(row + r) * x.width;
#endif
    for (int begin = 0; begin < m.padded(); begin += BLOCK) {
        int end = begin + BLOCK < m.padded() ? begin + BLOCK : m.padded();
        F32 part[R][T] = {};
        for (int column = begin; column < end; column += 2) {
            U32 w[T];
            for (int t = 0; t < T; ++t) w[t] = load<U32>(weights[t] + column * TILE);
            for (int r = 0; r < R; ++r) {
#if defined(__AVX512BF16__)
                std::uint32_t two;
                std::memcpy(&two, from[r] + column, sizeof two);
                __m512i pair = _mm512_set1_epi32(int(two));
                for (int t = 0; t < T; ++t)
                    part[r][t].raw = _mm512_dpbf16_ps(part[r][t].raw, reinterpret_cast<__m512bh>(w[t].raw),
                                                      reinterpret_cast<__m512bh>(pair));
#else
                const F32 first = all(from[r][column]), second = all(from[r][column + 1]);
                for (int t = 0; t < T; ++t) {
                    part[r][t] = fma(as<float>(w[t] << 16), first, part[r][t]);
                    part[r][t] = fma(as<float>(w[t] & filled<U32>(0xffff0000u)), second, part[r][t]);
                }
#endif
            }
        }
        for (int r = 0; r < R; ++r)
            for (int t = 0; t < T; ++t) total[r][t] += part[r][t];
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) store(y + std::size_t(r) * stride + t * TILE, total[r][t]);
}

// --- ints ------------------------------------------------------------------------------------------

// The scales of a tile's rows in one group, or their least weights: `at` is the place of the group,
// `unit` that of its units, where they are nested
template <bool NESTED>
inline F32 factors(const Matrix& m, const Buffer& from, std::size_t at, std::size_t unit) {
    if constexpr (NESTED)
        return halves(m.units.as<std::uint16_t>() + unit * TILE) * wholes(from.as<std::int8_t>() + at * TILE);
    else
        return halves(from.as<std::uint16_t>() + at * TILE);
}

// W in ints, x in ints: within a group the sum is exact, sum(q x) - zero sum(x); then
//   total = group's sum * (scale of w * scale of x) + total
//   total = least of w * (scale of x * sum(x)) + total
template <int BITS, int PER_SCALE, bool LEAST, bool NESTED, int R, int T>
void product_ints(const Matrix& m, int tile, const Activations& x, int row, float* y, int stride) {
    constexpr int PARTS = GROUP / PER_SCALE;  // of a group of 32, each with a scale of its own
    using Sum = Sums<BITS>;
    Weights<BITS> weights[T];
    for (int t = 0; t < T; ++t) weights[t] = Weights<BITS>(m, tile + t);
    const int groups = m.groups;
    const typename Sum::X* from[R];
    for (int r = 0; r < R; ++r) from[r] = Sum::of(x.ints) + std::size_t(row + r) * x.width;
    const std::size_t first = std::size_t(row) * groups;
    F32 total[R][T] = {};
    for (int group = 0; group < groups; ++group) {
        for (int part = 0; part < PARTS; ++part) {
            Sum sums[R][T] = {};
            for (int step = 0; step < PER_SCALE / 8; ++step) {
                U8 a[T], b[T];
                for (int t = 0; t < T; ++t) weights[t].eight(group * PARTS + part, PER_SCALE / 8, step, a[t], b[t]);
                const int place = Sum::place(group * GROUP + part * PER_SCALE + step * 8);
                for (int r = 0; r < R; ++r)
                    for (int t = 0; t < T; ++t) sums[r][t].add(a[t], b[t], from[r] + place);
            }
            F32 of_weights[T], least[T];
            for (int t = 0; t < T; ++t) {
                const std::size_t at = (std::size_t(tile + t) * groups + group) * PARTS + part;
                const std::size_t unit = (std::size_t(tile + t) * (groups * GROUP / SUPER) + group * GROUP / SUPER) * 2;
                of_weights[t] = factors<NESTED>(m, m.scales, at, unit);
                if constexpr (LEAST) least[t] = factors<NESTED>(m, m.least, at, unit + 1);
            }
            for (int r = 0; r < R; ++r) {
                const std::size_t at = first + std::size_t(r) * groups + group;
                const F32 of_x = all(x.ints.scales[at]);
                I32 zeros{};
                if constexpr (!LEAST)
                    zeros = all(PARTS == 1 ? x.ints.sums[at] : x.ints.half_sums[at * 2 + part]) << (BITS - 1);
                for (int t = 0; t < T; ++t) {
                    I32 whole = sums[r][t].whole();
                    if constexpr (!LEAST) whole = whole - zeros;
                    total[r][t] = fma(converted<float>(whole), of_weights[t] * of_x, total[r][t]);
                    if constexpr (LEAST) total[r][t] = fma(least[t], all(x.ints.weighted[at]), total[r][t]);
                }
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) store(y + std::size_t(r) * stride + t * TILE, total[r][t]);
}

}  // namespace lucid::LUCID_TARGET

// Matrix products: y (rows, outs) = x (rows, columns) times W (outs, columns) transposed.
//
// Sixteen outs are the lanes of a vector; a column's weights are multiplied with one number of x,
// broadcast, and added to the lanes. Each out is a sum over its columns in their order, in blocks of
// fixed size, whatever number of rows or tiles are computed together: so the bits of a result depend
// on its own operands alone. The loops below only choose how much is kept in registers at once.

#pragma once

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
                    part[r][t] = reinterpret_cast<F32>(
                        _mm512_dpbf16_ps(reinterpret_cast<__m512>(part[r][t]),
                                         reinterpret_cast<__m512bh>(w[t]),
                                         reinterpret_cast<__m512bh>(pair)));
#else
                for (int t = 0; t < T; ++t) {
                    part[r][t] = fma(as_floats(w[t] << 16), all(from[r][column]), part[r][t]);
                    part[r][t] = fma(as_floats(w[t] & 0xffff0000u), all(from[r][column + 1]), part[r][t]);
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

// sum + the dot products of four unsigned bytes of `w` in each lane with the four signed bytes `x`
inline I32 dot(I32 sum, U8 w, std::int32_t x) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<I32>(_mm512_dpbusd_epi32(
        reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w), _mm512_set1_epi32(x)));
#elif defined(__AVX2__)
    // bytes 0 and 2, and 1 and 3, as pairs of 16-bit numbers: no product or sum of two overflows
    auto* halves = reinterpret_cast<__m256i*>(&w);
    auto* sums = reinterpret_cast<__m256i*>(&sum);
    __m256i low = _mm256_set1_epi32(0x00ff00ff);
    auto byte = [x](int at) { return std::int8_t(x >> (8 * at)); };
    auto two = [](std::int16_t a, std::int16_t b) {
        return _mm256_set1_epi32(std::int32_t(std::uint16_t(a)) | std::int32_t(b) * 65536);
    };
    __m256i even = two(byte(0), byte(2)), odd = two(byte(1), byte(3));
    for (int at = 0; at < 2; ++at) {
        __m256i first = _mm256_madd_epi16(_mm256_and_si256(halves[at], low), even);
        __m256i second = _mm256_madd_epi16(
            _mm256_and_si256(_mm256_srli_epi16(halves[at], 8), low), odd);
        sums[at] = _mm256_add_epi32(sums[at], _mm256_add_epi32(first, second));
    }
    return sum;
#else
    U32 four = reinterpret_cast<U32>(w);
    for (int at = 0; at < 4; ++at)
        sum += reinterpret_cast<I32>(four >> (8 * at) & 0xffu) * all(std::int32_t(std::int8_t(x >> (8 * at))));
    return sum;
#endif
}

// The unsigned ints of one tile, four columns at a time
template <int BITS>
struct Ints {
    const std::uint8_t* low = nullptr;
    const std::uint64_t* high = nullptr;

    Ints() = default;
    Ints(const Matrix& m, int at)
        : low(m.values.as() + std::size_t(at) * m.tile_bytes()),
          high(m.high.as<std::uint64_t>() + std::size_t(at) * m.tile_high_bytes() / 8) {}

    // Columns 8j to 8j + 3 in `a`, 8j + 4 to 8j + 7 in `b`
    void eight(int j, U8& a, U8& b) const {
        if constexpr (BITS == 8) {
            a = load<U8>(low + j * 128);
            b = load<U8>(low + j * 128 + 64);
            return;
        }
        U8 both = load<U8>(low + j * 64);
        a = both & std::uint8_t(15);
        b = reinterpret_cast<U8>(reinterpret_cast<U32>(both) >> 4) & std::uint8_t(15);
        if constexpr (BITS >= 5) {
            constexpr int WORDS = 2 * (BITS - 4);
            a = with(a, high[j * WORDS], 16);
            b = with(b, high[j * WORDS + 1], 16);
            if constexpr (BITS == 6) {
                a = with(a, high[j * WORDS + 2], 32);
                b = with(b, high[j * WORDS + 3], 32);
            }
        }
    }

    // `bytes` with `bit` added where `mask` says
    static U8 with(U8 bytes, std::uint64_t mask, std::uint8_t bit) {
#if defined(__AVX512BW__)
        __m512i x = reinterpret_cast<__m512i>(bytes);
        return reinterpret_cast<U8>(_mm512_mask_add_epi8(x, mask, x, _mm512_set1_epi8(char(bit))));
#else
        std::uint8_t lanes[64];
        store(lanes, bytes);
        for (int at = 0; at < 64; ++at) lanes[at] |= std::uint8_t((mask >> at & 1) * bit);
        return load<U8>(lanes);
#endif
    }
};

template <bool WIDE>
inline F32 scale(const Buffer& scales, std::size_t at) {
    if constexpr (WIDE) return load<F32>(scales.as<float>() + at * TILE);
    return halves(scales.as<std::uint16_t>() + at * TILE);
}

// W in ints, x in ints: within a group the sum is exact, sum(q x) - zero sum(x); then
//   total = group's sum * (scale of w * scale of x) + total
//   total = least of w * (scale of x * sum(x)) + total
template <int BITS, int PER_SCALE, bool LEAST, bool WIDE, int R, int T>
void product_ints(const Matrix& m, int tile, const Activations& x, int row, float* y, int stride) {
    constexpr int PARTS = GROUP / PER_SCALE;  // of a group of 32, each with a scale of its own
    Ints<BITS> weights[T];
    for (int t = 0; t < T; ++t) weights[t] = Ints<BITS>(m, tile + t);
    const int groups = m.groups, per_row = groups * 2;
    F32 total[R][T] = {};
    for (int group = 0; group < groups; ++group) {
        for (int part = 0; part < PARTS; ++part) {
            I32 sums[R][T];
            std::int32_t plain[R];
            for (int r = 0; r < R; ++r) {
                const std::int32_t* of = x.sums + std::size_t(row + r) * per_row + group * 2;
                plain[r] = PARTS == 2 ? of[part] : of[0] + of[1];
                for (int t = 0; t < T; ++t) sums[r][t] = all(-m.zero * plain[r]);
            }
            for (int step = 0; step < PER_SCALE / 8; ++step) {
                int j = (group * GROUP + part * PER_SCALE) / 8 + step;
                U8 a[T], b[T];
                for (int t = 0; t < T; ++t) weights[t].eight(j, a[t], b[t]);
                for (int r = 0; r < R; ++r) {
                    std::int32_t first, second;
                    const std::int8_t* from = x.ints + std::size_t(row + r) * x.width + j * 8;
                    std::memcpy(&first, from, 4);
                    std::memcpy(&second, from + 4, 4);
                    for (int t = 0; t < T; ++t) {
                        sums[r][t] = dot(sums[r][t], a[t], first);
                        sums[r][t] = dot(sums[r][t], b[t], second);
                    }
                }
            }
            for (int t = 0; t < T; ++t) {
                std::size_t at = (std::size_t(tile + t) * groups + group) * PARTS + part;
                F32 of_weights = scale<WIDE>(m.scales, at), least = {};
                if constexpr (LEAST) least = scale<WIDE>(m.least, at);
                for (int r = 0; r < R; ++r) {
                    float of_x = x.scales[std::size_t(row + r) * groups + group];
                    total[r][t] = fma(floats(sums[r][t]), of_weights * all(of_x), total[r][t]);
                    if constexpr (LEAST)
                        total[r][t] = fma(least, all(of_x * float(plain[r])), total[r][t]);
                }
            }
        }
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) store(y + std::size_t(r) * stride + t * TILE, total[r][t]);
}

}  // namespace lucid::LUCID_TARGET

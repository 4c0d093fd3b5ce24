// What is done to one row of numbers: norms, activations, rotation, rounding for the products.
//
// Rows are as wide as a whole number of groups of 32, zeros behind their `n` numbers, and stay so.

#pragma once

#include "dots.h"
#include "functions.h"
#include "matrix.h"

namespace lucid::LUCID_TARGET {

// Up to sixteen numbers; lanes beyond `n` are 0
inline F32 load_some(const float* from, int n) {
    if (n >= LANES) return load<F32>(from);
    F32 found = {};
    std::memcpy(&found, from, std::size_t(n) * sizeof(float));
    return found;
}

inline void store_some(float* to, const F32& value, int n) {
    std::memcpy(to, &value, std::size_t(n < LANES ? n : LANES) * sizeof(float));
}

// Norms of n numbers, one step after the other. Sums run in sixteen lanes, then as a tree.

inline float mean(const float* x, int n) {
    F32 total = {};
    for (int at = 0; at < n; at += LANES) total += load_some(x + at, n - at);
    return sum(total) / float(n);
}

// sqrt(mean((x - centre)^2) + eps)
inline float deviation(const float* x, int n, float centre, float eps) {
    F32 squares = {};
    int at = 0;
    for (; at + LANES <= n; at += LANES) {
        F32 apart = load<F32>(x + at) - all(centre);
        squares = fma(apart, apart, squares);
    }
    if (at < n) {
        alignas(64) float rest[LANES] = {};
        for (int lane = 0; lane < n - at; ++lane) rest[lane] = x[at + lane] - centre;
        F32 apart = load<F32>(rest);
        squares = fma(apart, apart, squares);
    }
    return std::sqrt(sum(squares) / float(n) + eps);
}

inline void normalize(const float* x, int n, float centre, float scale, float* out) {
    for (int at = 0; at < n; at += LANES)
        store_some(out + at, (load_some(x + at, n - at) - all(centre)) / all(scale), n - at);
}

// x * weight (+ bias)
inline void weigh(const float* x, int n, const float* weight, const float* bias, float* out) {
    int at = 0;
    for (; at + LANES <= n; at += LANES) {
        F32 value = load<F32>(x + at) * load<F32>(weight + at);
        if (bias) value += load<F32>(bias + at);
        store(out + at, value);
    }
    for (; at < n; ++at) out[at] = x[at] * weight[at] + (bias ? bias[at] : 0.0f);
}

inline void add(const float* a, const float* b, int width, float* out) {
    for (int at = 0; at < width; at += LANES) store(out + at, load<F32>(a + at) + load<F32>(b + at));
}

inline void multiply(const float* a, const float* b, int width, float* out) {
    for (int at = 0; at < width; at += LANES) store(out + at, load<F32>(a + at) * load<F32>(b + at));
}

inline void activate(Activation kind, const float* x, int width, float* out) {
    for (int at = 0; at < width; at += LANES) store(out + at, activate(kind, load<F32>(x + at)));
}

// Turn (i, i + n/2) by the angle whose cosine and sine stand at i (Su et al. 2021)
inline void rotate(const float* x, const float* cosine, const float* sine, int n, float* out) {
    const int half = n / 2;
    for (int i = 0; i < half; ++i) {
        float a = x[i], b = x[i + half];
        out[i] = a * cosine[i] - b * sine[i];
        out[i + half] = b * cosine[i] + a * sine[i];
    }
}

// bfloat16: to the nearest, ties to even
inline void round_to_bfloats(const float* x, int width, std::uint16_t* out) {
    for (int at = 0; at < width; ++at) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[at]);
        const std::uint32_t up = bits + 0x7fffu + (bits >> 16 & 1u);
        const std::uint32_t quiet = bits | 0x400000u;  // what is no number stays none
        out[at] = std::uint16_t(((bits & 0x7fffffffu) > 0x7f800000u ? quiet : up) >> 16);
    }
}

// x = scale * int in groups of 32, scale = max|x| / 127; and their sums
inline void round_to_ints(const float* x, int width, const Ints& out) {
    for (int group = 0; group * GROUP < width; ++group) {
        const F32 a = load<F32>(x + group * GROUP), b = load<F32>(x + group * GROUP + LANES);
        const float most = largest(maximum(absolute(a), absolute(b)));
        const float scale = most / 127.0f;
        const F32 inverse = all(most > 0.0f ? 127.0f / most : 0.0f);
        // 1.5 * 2^23 added and taken away rounds to the nearest whole number, ties to even
        const F32 shift = all(12582912.0f);
        const I32 first = converted<std::int32_t>((a * inverse + shift) - shift);
        const I32 second = converted<std::int32_t>((b * inverse + shift) - shift);
        const std::int32_t sums[2] = {sum(first), sum(second)};
        out.scales[group] = scale;
        out.sums[group] = sums[0] + sums[1];
        out.half_sums[group * 2] = sums[0];
        out.half_sums[group * 2 + 1] = sums[1];
        out.weighted[group] = scale * float(sums[0] + sums[1]);
        alignas(64) std::int32_t whole[GROUP];
        alignas(64) std::int8_t bytes[GROUP];
        store(whole, first);
        store(whole + LANES, second);
        for (int at = 0; at < GROUP; ++at) bytes[at] = std::int8_t(whole[at]);
        std::memcpy(out.bytes + group * GROUP, bytes, sizeof bytes);
        if constexpr (WANT_PAIRS) {
            alignas(64) std::int16_t both[GROUP / 2], pairs[GROUP];  // the lower byte is the even column's
            std::memcpy(both, bytes, sizeof bytes);
            for (int at = 0; at < GROUP / 2; ++at) {
                pairs[at] = std::int8_t(both[at]);
                pairs[at + GROUP / 2] = std::int16_t(both[at] >> 8);
            }
            std::memcpy(out.pairs + group * GROUP, pairs, sizeof pairs);
        }
    }
}

}  // namespace lucid::LUCID_TARGET

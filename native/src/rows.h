// What is done to one row of numbers: norms, activations, rotation, rounding for the products.
//
// Rows are as wide as a whole number of groups of 32, zeros behind their `n` numbers, and stay so.

#pragma once

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

inline void store_some(float* to, F32 value, int n) {
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
        F32 apart = load_some(x + at, n - at) - all(centre);
        for (int lane = n - at; lane < LANES; ++lane) apart[lane] = 0.0f;
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
    for (int at = 0; at < n; at += LANES) {
        F32 value = load_some(x + at, n - at) * load_some(weight + at, n - at);
        if (bias) value += load_some(bias + at, n - at);
        store_some(out + at, value, n - at);
    }
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
    for (int at = 0; at < width; at += LANES) {
        U32 bits = load<U32>(x + at);
        U32 up = bits + 0x7fffu + (bits >> 16 & 1u);
        U32 quiet = bits | 0x400000u;  // what is no number stays none
        U32 is_nan = reinterpret_cast<U32>((bits & 0x7fffffffu) > 0x7f800000u);
        U32 chosen = (is_nan & quiet) | (~is_nan & up);
        store(out + at, __builtin_convertvector(chosen >> 16, U16));
    }
}

// x = scale * int in groups of 32, scale = max|x| / 127; and the sums of sixteen ints each
inline void round_to_ints(const float* x, int width, std::int8_t* ints, float* scales, std::int32_t* sums) {
    for (int group = 0; group * GROUP < width; ++group) {
        const float* from = x + group * GROUP;
        F32 a = load<F32>(from), b = load<F32>(from + LANES);
        float most = largest(maximum(maximum(a, -a), maximum(b, -b)));
        float scale = most / 127.0f;
        float inverse = most > 0.0f ? 127.0f / most : 0.0f;
        scales[group] = scale;
        for (int part = 0; part < 2; ++part) {
            F32 value = (part ? b : a) * all(inverse);
            // 1.5 * 2^23 added and taken away rounds to the nearest whole number, ties to even
            I32 whole = __builtin_convertvector((value + all(12582912.0f)) - all(12582912.0f), I32);
            store(ints + group * GROUP + part * LANES, __builtin_convertvector(whole, I8));
            sums[group * 2 + part] = sum(whole);
        }
    }
}

}  // namespace lucid::LUCID_TARGET

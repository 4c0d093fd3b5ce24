// Sixteen numbers at a time, as the compiler's own vectors: the same lanes, operations and order on
// every processor, in one register where it has such, else in several.
//
// This file and those that include it are compiled once for each instruction set, so everything in
// them lives in a namespace named after it (LUCID_TARGET).

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace lucid::LUCID_TARGET {

constexpr int LANES = 16;

using F32 = float __attribute__((vector_size(64)));
using I32 = std::int32_t __attribute__((vector_size(64)));
using U32 = std::uint32_t __attribute__((vector_size(64)));
using U8 = std::uint8_t __attribute__((vector_size(64)));
using U16 = std::uint16_t __attribute__((vector_size(32)));
using I8 = std::int8_t __attribute__((vector_size(16)));

template <class V, class T>
inline V load(const T* from) {
    V found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

template <class V, class T>
inline void store(T* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

inline F32 all(float x) {
    return F32{} + x;
}

inline I32 all(std::int32_t x) {
    return I32{} + x;
}

inline F32 floats(I32 x) {
    return __builtin_convertvector(x, F32);
}

inline F32 as_floats(U32 bits) {
    return reinterpret_cast<F32>(bits);
}

// a * b + c, rounded once
inline F32 fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
    return reinterpret_cast<F32>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a),
                                                 reinterpret_cast<__m512>(b),
                                                 reinterpret_cast<__m512>(c)));
#else
    F32 sum;
    for (int lane = 0; lane < LANES; ++lane) sum[lane] = std::fma(a[lane], b[lane], c[lane]);
    return sum;
#endif
}

inline F32 maximum(F32 a, F32 b) {
    return a > b ? a : b;
}

// The lanes added up as a tree: 8 pairs, 4, 2, 1.
inline float sum(F32 x) {
    alignas(64) float lanes[LANES];
    store(lanes, x);
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

inline std::int32_t sum(I32 x) {
    alignas(64) std::int32_t lanes[LANES];
    store(lanes, x);
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

inline float largest(F32 x) {
    alignas(64) float lanes[LANES];
    store(lanes, x);
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; ++lane)
            lanes[lane] = lanes[lane] > lanes[lane + width] ? lanes[lane] : lanes[lane + width];
    return lanes[0];
}

// Sixteen half-precision numbers (IEEE 754 binary16), widened exactly
inline F32 halves(const std::uint16_t* from) {
#if defined(__AVX512F__)
    return reinterpret_cast<F32>(
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__)
    F32 found;
    for (int at = 0; at < LANES; at += 8) {
        __m256 eight = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
        std::memcpy(reinterpret_cast<float*>(&found) + at, &eight, sizeof eight);
    }
    return found;
#else
    // The exponent's bias is 15 there and 127 here: a multiplication by 2^112 moves it, and
    // subnormal numbers with it; what was infinite or no number is so again.
    U32 bits = __builtin_convertvector(load<U16>(from), U32);
    U32 sign = (bits & 0x8000u) << 16, rest = (bits & 0x7fffu) << 13;
    F32 moved = as_floats(rest) * std::bit_cast<float>(0x77800000u);  // 2^112
    U32 special = reinterpret_cast<U32>(rest >= (0x7c00u << 13)) & 0x7f800000u;
    return as_floats(reinterpret_cast<U32>(moved) | special | sign);
#endif
}

// Sixteen numbers in bfloat16, which are the upper halves of float32
inline F32 uppers(const std::uint16_t* from) {
    return as_floats(__builtin_convertvector(load<U16>(from), U32) << 16);
}

}  // namespace lucid::LUCID_TARGET

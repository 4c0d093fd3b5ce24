// The functions of one number: exp and what is made of it, sixteen at a time.

#pragma once

#include "kernels.h"
#include "vector.h"

namespace lucid::LUCID_TARGET {


// e^x to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r
// (Cephes' expf), and n added to the exponent. Below the smallest normal number it is 0.
inline F32 exp(F32 x) {
    const F32 low = all(-87.33654f), high = all(88.37626f);
    F32 within = x < low ? low : x;
    within = within > high ? high : within;
    F32 shifted = fma(within, all(1.44269504088896341f), all(12582912.0f));  // 1.5 * 2^23: rounds
    F32 n = shifted - all(12582912.0f);
    F32 r = fma(n, all(-0.693359375f), within);
    r = fma(n, all(2.12194440e-4f), r);
    F32 p = all(1.9875691500e-4f);
    for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                              5.0000001201e-1f})
        p = fma(p, r, all(coefficient));
    p = fma(p * r, r, r) + all(1.0f);
    I32 exponent = (__builtin_convertvector(n, I32) + 127) << 23;
    return x < low ? F32{} : p * reinterpret_cast<F32>(exponent);
}

inline F32 sigmoid(F32 x) {
    return all(1.0f) / (all(1.0f) + exp(-x));
}

// Near 0 the quotient would lose what is small: there the odd series x - x^3/3 + ... is exact enough.
inline F32 tanh(F32 x) {
    F32 square = x * x;
    F32 p = all(-5.70498872745e-3f);
    for (float coefficient : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f})
        p = fma(p, square, all(coefficient));
    F32 near = fma(p * square, x, x);
    F32 size = x < 0.0f ? -x : x;
    F32 far = all(1.0f) - all(2.0f) / (exp(size + size) + all(1.0f));
    far = x < 0.0f ? -far : far;
    return size < all(0.625f) ? near : far;
}

// x Phi(x), by the C library's erf of each number
inline F32 gelu(F32 x) {
    F32 result;
    for (int lane = 0; lane < LANES; ++lane)
        result[lane] = 0.5f * x[lane] * (1.0f + std::erf(x[lane] * 0.70710678118654752f));
    return result;
}

// Hendrycks & Gimpel (2016)'s approximation
inline F32 gelu_tanh(F32 x) {
    F32 inner = all(0.79788456080286536f) * fma(all(0.044715f) * x * x, x, x);
    return all(0.5f) * x * (all(1.0f) + tanh(inner));
}

inline F32 activate(Activation kind, F32 x) {
    switch (kind) {
        case Activation::RELU: return x > 0.0f ? x : F32{};
        case Activation::GELU: return gelu(x);
        case Activation::GELU_TANH: return gelu_tanh(x);
        case Activation::SILU: return x * sigmoid(x);
        case Activation::SIGMOID: return sigmoid(x);
        case Activation::TANH: return tanh(x);
    }
    return x;
}

}  // namespace lucid::LUCID_TARGET

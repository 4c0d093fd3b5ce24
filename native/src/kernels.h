// The kernels of one instruction set, behind pointers: chosen once, by what the processor has.

#pragma once

#include <cstdint>
#include <vector>

#include "matrix.h"

namespace lucid {

enum class Activation { RELU, GELU, GELU_TANH, SILU, SIGMOID, TANH };

constexpr int PAGE = 64;    // positions of a sequence that lie together
constexpr int QUERIES = 4;  // that are computed together

// Some queries of one head
struct Block {
    int count = 0;
    const float* query[QUERIES];       // head_dim numbers each
    int begin[QUERIES], end[QUERIES];  // the positions that each may see
    int position[QUERIES];             // its own
    float* products[QUERIES] = {};     // where to leave q.k; null: nowhere
    float* scores[QUERIES];            // scaled and biased, -inf where hidden
    float* pattern[QUERIES];           // may be the same memory as scores
    float* mixed[QUERIES];
    int row[QUERIES], head[QUERIES];   // for who made it

    // Query q alone
    Block only(int q) const {
        Block one;
        one.count = 1;
        one.query[0] = query[q];
        one.begin[0] = begin[q];
        one.end[0] = end[q];
        one.position[0] = position[q];
        one.products[0] = products[q];
        one.scores[0] = scores[q];
        one.pattern[0] = pattern[q];
        one.mixed[0] = mixed[q];
        return one;
    }
};

// The keys and values of one sequence and head
struct Keys {
    const float* const* keys;    // by page: (head_dim, PAGE)
    const float* const* values;  // by page: (PAGE, value_width)
    int count;                   // positions that are there
    int head_dim;
    int value_width;             // head_dim filled up to whole vectors
    float scale;
    const float* bias;           // by distance key - query + reach; null: none
    int reach;
};

struct Kernels {
    const char* name;
    bool dots_bfloats;  // products with bfloat16 weights want bfloat16 activations

    // y (rows, stride) = x W^T for tiles [tile, end) of W, an even number, and all rows of x
    void (*product)(const Matrix& m, int tile, int end, const Activations& x, float* y, int stride);

    // Of one row of n numbers
    float (*mean)(const float* x, int n);
    float (*deviation)(const float* x, int n, float centre, float eps);
    void (*normalize)(const float* x, int n, float centre, float scale, float* out);
    void (*weigh)(const float* x, int n, const float* weight, const float* bias, float* out);
    void (*rotate)(const float* x, const float* cosine, const float* sine, int n, float* out);

    // Of one row as wide as whole vectors
    void (*add)(const float* a, const float* b, int width, float* out);
    void (*multiply)(const float* a, const float* b, int width, float* out);
    void (*activate)(Activation kind, const float* x, int width, float* out);
    void (*round_to_bfloats)(const float* x, int width, std::uint16_t* out);
    void (*round_to_ints)(const float* x, int width, const Ints& out);

    // Attention in three parts: products and scores of a block's queries; scores to a pattern; and
    // the values mixed by it
    void (*score)(const Block& block, const Keys& keys);
    void (*softmax)(const float* scores, int count, float* pattern);
    void (*mix)(const Block& block, const Keys& keys);
};

// Those that this processor can run, the fastest first
std::vector<const Kernels*> available();

const Kernels& portable_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif

}  // namespace lucid

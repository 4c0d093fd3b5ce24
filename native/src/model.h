// A Transformer: its weights, and one function that reads new tokens of some sequences.

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cache.h"
#include "kernels.h"
#include "matrix.h"
#include "pool.h"
#include "watch.h"

namespace lucid {

struct Linear {
    std::shared_ptr<const Matrix> weight;
    std::vector<float> bias;  // filled up to whole tiles; empty: none

    explicit operator bool() const { return bool(weight); }
};

struct Norm {
    bool centred = false;  // LayerNorm; else RMSNorm
    float eps = 0.0f;
    std::vector<float> weight, bias;  // as wide as the rows are; empty weight: no norm

    explicit operator bool() const { return !weight.empty(); }
};

// x = residual(x + output(sublayer(input(x))))
struct AddNorm {
    Norm input, output, residual;
};

struct Attention {
    Linear query, key, value, output;
    Norm query_norm, key_norm;
    int heads = 0, kv_heads = 0, head_dim = 0;
    float scale = 1.0f;
    int window = 0;                  // positions that are seen, its own among them; 0: all
    std::vector<float> frequencies;  // radians a position, by pair of dimensions; empty: no rotation
    int rotation = -1;               // which of the pass's tables they are in
};

struct Layer {
    Attention attention, cross;  // cross without a query: none
    AddNorm attention_norm, cross_norm, feedforward_norm;
    Linear gate, up, down;       // without a gate: plain
    Activation activation = Activation::SILU;
};

enum class Mask { FULL, CAUSAL, STRICT };

struct Embedding {
    float scale = 1.0f;
    std::vector<float> positions;  // (rows, width); empty: none
    std::vector<float> segments;
    Norm norm;
};

struct Stack {
    Embedding embedding;
    std::vector<Layer> layers;
    Norm final_norm;
    Mask mask = Mask::CAUSAL;
    std::vector<float> bias;  // (heads, 2 reach + 1) by distance; empty: none
    int reach = 0;
};

struct Head {
    Linear transform;  // without weight: none
    Activation activation = Activation::GELU;
    Norm norm;
    float scale = 1.0f;
    std::shared_ptr<const Matrix> table;
    std::vector<float> bias;
};

// One new token
struct Token {
    int sequence, position, id, segment;
};

struct Dimensions {
    int dim, vocab;
};

class Pass;

class Model {
  public:
    Model(Dimensions dimensions, const Kernels& kernels, int threads);
    ~Model();

    std::optional<Stack> encoder, decoder;  // the passes point into them
    std::optional<Head> head;
    std::shared_ptr<const Matrix> table;

    // To be called once all weights are there
    void finish();

    const Kernels& kernels() const { return kernels_; }
    int threads() const { return pool_.threads(); }
    int dim() const { return dimensions_.dim; }
    int vocab() const { return dimensions_.vocab; }

    // Read tokens behind what their sequences hold, those of a sequence in order; leave the logits of
    // the tokens in `wanted`, in order, in `logits`.
    void step(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<const int> wanted,
              float* logits, const Watch* watch);

    // Whole texts through the encoder: the last vectors of all tokens (null: nowhere), and the logits
    // of those in `wanted` (null: nowhere)
    void encode(std::span<const Token> tokens, int sequences, std::span<const int> wanted, float* vectors,
                float* logits, const Watch* watch);

    // What cross-attention will look at: the encoder's last vectors (length, dim)
    void remember(Sequence& sequence, const float* vectors, int length);

    // Its keys and values of one layer, by head and position
    void read_memory(const Sequence& sequence, int layer, float* keys, float* values) const;

    // A part again. Each row of `tokens` is a sequence from position 0; `memory` is what each looks
    // at, (sequences, length, dim), or null.
    void embed_again(bool encodes, std::span<const Token> tokens, float* vectors, const Watch* watch);
    void layer_again(bool encodes, int layer, std::span<const Token> tokens, int sequences, const float* memory,
                     int memory_length, float* vectors, const Watch* watch);
    void norm_again(bool encodes, int rows, float* vectors, const Watch* watch);
    void head_again(int rows, const float* vectors, float* logits, const Watch* watch);

  private:
    friend class Pass;

    Dimensions dimensions_;
    const Kernels& kernels_;
    Pool pool_;
    Pass& pass(bool encodes) { return encodes ? *encoder_ : *decoder_; }

    std::unique_ptr<Pass> encoder_, decoder_;
    std::mutex mutex_;  // one step at a time: it uses every core anyway
};

}  // namespace lucid

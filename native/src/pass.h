// Tokens on their way through a stack, on all threads at once.

#pragma once

#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

#include "cache.h"
#include "kernels.h"
#include "model.h"
#include "pool.h"
#include "watch.h"

namespace lucid {

// Which of `count` things thread `thread` of `threads` does, in runs of `step`
struct Share {
    int begin, end;

    Share(int count, int thread, int threads, int step = 1) {
        const long units = (count + step - 1) / step;
        const long from = units * thread / threads * step, to = units * (thread + 1) / threads * step;
        begin = int(from < count ? from : count);
        end = int(to < count ? to : count);
    }
};

// As many as whole vectors hold
inline int lanes(int n) {
    return (n + 15) / 16 * 16;
}

// Zeros in x from `from` to `to`
inline void blank(float* x, int from, int to) {
    if (from < to) std::memset(x + from, 0, std::size_t(to - from) * 4);
}

// Rows of numbers, each as wide as a whole number of groups; and what products want of them
struct Rows {
    int width = 0;
    Buffer floats, bfloats, bytes, pairs, scales, weighted, sums, half_sums;

    // Memory for so many rows, none of which is kept
    void make_room(int rows);
    float* row(int at) { return floats.as<float>() + std::size_t(at) * width; }
    Activations activations(int rows);
    Ints ints(int row, int column);
};

class Pass {
  public:
    Pass(Model& model, Stack& stack);

    const Layout& layout() const { return layout_; }
    const Layout& memory_layout() const { return memory_layout_; }

    // Read `tokens`, for which their sequences have room; leave the last vectors of all of them in
    // `vectors` (null: nowhere), and the logits of those in `wanted` in `logits` (null: nowhere).
    // `first` is the place of the first token among those of the call.
    void run(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<const int> wanted,
             float* vectors, float* logits, const Watch* watch, int first);

    // One part again: from the ids of `tokens`, or from vectors (tokens, dim) in place
    void embed_again(std::span<const Token> tokens, float* vectors, const Watch* watch);
    void layer_again(int layer, std::span<Sequence* const> sequences, std::span<const Token> tokens, float* vectors,
                     const Watch* watch);
    void norm_again(int rows, float* vectors, const Watch* watch);
    void head_again(int rows, const float* vectors, float* logits, const Watch* watch);

    // Keys and values of each layer's cross-attention, of `length` vectors, into the sequence's memory
    void remember(Sequence& sequence, const float* vectors, int length);

  private:
    // What a thread has for itself
    struct Own {
        std::vector<float> row, scores, logits, mixed;
        std::vector<float> means, scales;
        std::vector<const float*> keys, values;  // pages
    };
    // Cosine and sine of what each pair of dimensions has turned by, by position
    struct Rotation {
        std::vector<float> frequencies, cosine, sine;

        void make_room(int positions);
    };
    // A sublayer, for the eyes of those who watch
    struct Place {
        int layer;
        int norm, query, residual;  // where its sites begin
        bool crosses;
    };

    void begin(std::span<Sequence* const> sequences, std::span<const Token> tokens, const Watch* watch, int first);
    Share share(int thread) const;

    void embed(int thread);
    void layer(int thread, int at);
    void finish(int thread, std::span<const int> wanted, float* vectors, float* logits);
    void head(int thread, int rows, float* logits);

    void attention(int thread, const Attention& a, const AddNorm& around, const Place& place);
    Rows& before(int thread, const AddNorm& around, int layer, int site,
                 std::initializer_list<const Matrix*> readers);
    void after(int thread, const AddNorm& around, Rows& inner, const Linear& last, int layer, int output,
               int residual);
    void turn(int thread, const Attention& a, const Place& place);
    void keep(const Attention& a, const Slot& slot, Buffer& page, int position, int row);
    void attend(int thread, const Attention& a, const Place& place);
    void attend_openly(int thread, const Attention& a, const Place& place);
    void mix_block(const Attention& a, const Slot& slot, int sequence, int kv, Block& block, const Place& place,
                   int thread);
    Keys keys(const Attention& a, const Slot& slot, int sequence, int kv, bool crosses, int thread);
    void see(const Attention& a, const Token& token, bool crosses, int& begin, int& end) const;
    void bend(int thread, const Layer& layer, int at);

    void product(int thread, const Linear& linear, Rows& from, int rows, Rows& to);
    void prepare(Rows& rows, int at, std::initializer_list<const Matrix*> readers);
    void prepare(Rows& rows, int at, std::initializer_list<const Matrix*> readers, int begin, int end);
    void norm(const Norm& how, const float* x, int n, int parts, float* out, int site, int row, int thread);
    void scale(float* x, float by) const;

    // Whether somebody looks at the site; and let them, at one row of it
    bool is_watched(int site) const;
    bool is_edited(int site) const;
    void show(int site, int row, float* values, int width) const;

    Model& model_;
    const Kernels& k_;
    Pool& pool_;
    const Stack& stack_;
    Layout layout_, memory_layout_;
    std::span<Sequence* const> sequences_;
    std::span<const Token> tokens_;
    const Watch* watch_ = nullptr;
    int rows_ = 0, first_ = 0, room_ = 0;
    std::vector<int> ends_;  // positions of each sequence, with the new ones
    Rows x_, normed_, part_, query_, key_, value_, mixed_, gate_, up_, last_, more_;
    std::vector<Own> own_;
    std::vector<Rotation> rotations_;
};

}  // namespace lucid

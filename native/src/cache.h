// What the engine remembers of a sequence: keys and values of every layer, in pages of positions.
//
// A page is shared by sequences that began alike and copied when one of them writes into it.

#pragma once

#include <memory>
#include <vector>

#include "kernels.h"
#include "matrix.h"

namespace lucid {

// Where one layer's keys and values stand in a page
struct Slot {
    std::size_t keys, values;  // of the first head, in floats
    int heads, head_dim, value_width;

    std::size_t key(int head) const { return keys + std::size_t(head) * head_dim * PAGE; }
    std::size_t value(int head) const { return values + std::size_t(head) * PAGE * value_width; }
};

struct Layout {
    std::vector<Slot> slots;   // by layer
    std::size_t floats = 0;    // of a page

    void add(int heads, int head_dim);
};

struct Sequence {
    std::vector<std::shared_ptr<Buffer>> pages;
    int length = 0;
    std::vector<std::shared_ptr<Buffer>> memory;  // cross-attention's, of the encoder's positions
    int memory_length = 0;

    // Pages for `count` more positions, those that will be written to being nobody else's
    void make_room(int count, const Layout& layout);
    void truncate(int to) { length = to < length ? to : length; }
};

}  // namespace lucid

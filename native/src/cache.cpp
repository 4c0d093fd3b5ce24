#include "cache.h"

#include <cstring>

namespace lucid {

void Layout::add(int heads, int head_dim) {
    int width = (head_dim + 15) / 16 * 16;
    Slot slot{floats, floats + std::size_t(heads) * head_dim * PAGE, heads, head_dim, width};
    floats = slot.values + std::size_t(heads) * PAGE * width;
    slots.push_back(slot);
}

void Sequence::make_room(int count, const Layout& layout) {
    const std::size_t bytes = layout.floats * sizeof(float);
    const std::size_t needed = std::size_t(length + count + PAGE - 1) / PAGE;
    for (std::size_t page = std::size_t(length / PAGE); page < needed; ++page) {
        if (page >= pages.size()) {
            pages.push_back(std::make_shared<Buffer>(bytes));
        } else if (pages[page].use_count() > 1) {
            auto own = std::make_shared<Buffer>(bytes);
            std::memcpy(own->as(), pages[page]->as(), bytes);
            pages[page] = std::move(own);
        }
    }
}

}  // namespace lucid

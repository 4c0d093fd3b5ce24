// What somebody wants to see of a call, or to change on the way.

#pragma once

#include <functional>
#include <vector>

namespace lucid {

// The sites of a layer, in order of computation; four for a norm. The names stand in watch.cpp.
enum LayerSite {
    RESIDUAL_IN,
    ATTENTION_NORM,
    QUERY = ATTENTION_NORM + 4,
    KEY,
    VALUE,
    QUERY_NORM,
    KEY_NORM = QUERY_NORM + 4,
    QUERY_ROTATED = KEY_NORM + 4,
    KEY_ROTATED,
    PRODUCTS,
    POSITION_BIAS,
    SCORES,
    PATTERN,
    MIXED,
    ATTENTION_OUTPUT,
    ATTENTION_OUTPUT_NORM,
    ATTENTION_ADDED = ATTENTION_OUTPUT_NORM + 4,
    ATTENTION_RESIDUAL_NORM,
    RESIDUAL_MID = ATTENTION_RESIDUAL_NORM + 4,
    CROSS,  // the same from ATTENTION_NORM to RESIDUAL_MID, of cross-attention
    FEEDFORWARD_NORM = CROSS + RESIDUAL_MID,
    GATE = FEEDFORWARD_NORM + 4,
    UP,
    ACTIVATED,
    PRODUCT,
    FEEDFORWARD_OUTPUT,
    FEEDFORWARD_OUTPUT_NORM,
    FEEDFORWARD_ADDED = FEEDFORWARD_OUTPUT_NORM + 4,
    FEEDFORWARD_RESIDUAL_NORM,
    RESIDUAL_OUT = FEEDFORWARD_RESIDUAL_NORM + 4,
    LAYER_SITES
};

// Of cross-attention: `CROSS + (site - ATTENTION_NORM)`
constexpr int crossed(int site) {
    return CROSS + site - ATTENTION_NORM;
}

// Those outside layers
enum WholeSite {
    TOKENS,
    SEGMENTS,
    POSITIONS,
    SUM,
    EMBEDDING_NORM,
    FINAL_NORM = EMBEDDING_NORM + 4,
    HEAD_PROJECTED = FINAL_NORM + 4,
    HEAD_ACTIVATED,
    HEAD_NORM,
    HEAD_TRANSFORMED = HEAD_NORM + 4,
    LOGITS,
    WHOLE_SITES
};

std::vector<const char*> layer_site_names();
std::vector<const char*> whole_site_names();

struct Watch {
    struct Target {
        float* to = nullptr;  // by row of the call, each as wide as the site is
        bool edited = false;
    };

    std::vector<Target> targets;  // those outside layers, then by layer
    int span = 0;                 // positions of a row of products, scores and patterns
    // Change the values of a site in one row of the call; from any thread
    std::function<void(int site, int row, float* values, int width)> edit;

    static int of_layer(int layer, int site) { return WHOLE_SITES + layer * LAYER_SITES + site; }
};

}  // namespace lucid

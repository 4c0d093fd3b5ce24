#include "watch.h"

#include <iterator>

namespace lucid {
namespace {

#define NORM(at) at ".mean", at ".scale", at ".normalized", at ".output"
#define ATTENTION(at, residual)                                                                          \
    NORM(at "_norm.input"), at ".query", at ".key", at ".value", NORM(at ".query_norm"),                 \
        NORM(at ".key_norm"), at ".query_rotated", at ".key_rotated", at ".products",                    \
        at ".position_bias", at ".scores", at ".pattern", at ".mixed", at ".output",                     \
        NORM(at "_norm.output"), at "_norm.added", NORM(at "_norm.residual"), residual

constexpr const char* LAYER[] = {
    "residual_in", ATTENTION("attention", "residual_mid"), ATTENTION("cross_attention", "residual_cross"),
    NORM("feedforward_norm.input"), "feedforward.gate", "feedforward.up", "feedforward.activated",
    "feedforward.product", "feedforward.output", NORM("feedforward_norm.output"), "feedforward_norm.added",
    NORM("feedforward_norm.residual"), "residual_out"};

constexpr const char* WHOLE[] = {
    "embedding.tokens", "embedding.segments", "embedding.positions", "embedding.sum", NORM("embedding.norm"),
    NORM("final_norm"), "head.projected", "head.activated", NORM("head.norm"), "head.transformed",
    "head.logits"};

#undef ATTENTION
#undef NORM

static_assert(std::size(LAYER) == LAYER_SITES);
static_assert(std::size(WHOLE) == WHOLE_SITES);

}  // namespace

std::vector<const char*> layer_site_names() {
    return {std::begin(LAYER), std::end(LAYER)};
}

std::vector<const char*> whole_site_names() {
    return {std::begin(WHOLE), std::end(WHOLE)};
}

}  // namespace lucid

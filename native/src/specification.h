// A model from the nested dictionaries that describe it to Python.

#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "model.h"

namespace lucid {

// Raises ValueError in Python where a caller's promise does not hold
inline void require(bool holds, const char* otherwise) {
    if (!holds) throw std::invalid_argument(otherwise);
}

std::shared_ptr<Model> model(nanobind::dict spec, int threads, const std::string& instructions);

}  // namespace lucid

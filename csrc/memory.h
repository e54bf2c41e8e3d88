// Aligned memory for arrays.
#pragma once
#include <pybind11/pybind11.h>

void define_memory(pybind11::module_& m);

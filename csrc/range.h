// Runs a kernel over a range of indices. Included by the registration sources that the build writes.
#pragma once
#include "portable.h"
#include "registry.h"

#ifdef LAYERFORGE_WIDE_INDEX  // rare: more than 2^31 elements; not worth two thirds of the build's time
#define RANGE_CLONES
constexpr Width width = WIDE;
#else
#define RANGE_CLONES CLONES
constexpr Width width = NARROW;
#endif

template <auto kernel>
struct Range;

template <class... A, void (*kernel)(index_t, A...)>
struct Range<kernel> {
  // Arguments by value: behind a reference, every store might change them. Iterations are independent by contract,
  // which in-place calls (x == y) could not be proved to be.
  RANGE_CLONES static void loop(index_t begin, index_t end, A... arguments) {
    INDEPENDENT
    for (index_t i = begin; i < end; ++i) kernel(i, arguments...);
  }

  template <size_t... n>
  static void unpack(int64_t begin, int64_t end, const Value* values, std::index_sequence<n...>) {
    (void)values;
    loop(index_t(begin), index_t(end), Argument<A>::from(values[n])...);
  }

  static void run(int64_t begin, int64_t end, const Value* values) {
    unpack(begin, end, values, std::index_sequence_for<A...>());
  }

  static Variant variant() { return Variant{run, {Argument<A>::kind()...}}; }
};

inline Kernel& declare(const char* family, const char* name, std::vector<std::string> arguments, bool typed) {
  Kernel& kernel = kernels()[family][name];
  kernel.family = family;
  kernel.name = name;
  kernel.arguments = std::move(arguments);
  kernel.typed = typed;
  return kernel;
}

template <auto single, auto twice>
void add(const char* family, const char* name, std::vector<std::string> arguments) {
  Kernel& kernel = declare(family, name, std::move(arguments), true);
  kernel.variant[FLOAT][width] = Range<single>::variant();
  kernel.variant[DOUBLE][width] = Range<twice>::variant();
}

template <auto only>
void add(const char* family, const char* name, std::vector<std::string> arguments) {
  declare(family, name, std::move(arguments), false).variant[FLOAT][width] = Range<only>::variant();
}

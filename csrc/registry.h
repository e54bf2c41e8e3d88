// The registry of kernels, and what it needs to know of each: the kinds of its arguments, how to run a range of it.
//
// The build writes one source file per kernel header and index width; it registers the header's kernels. A hand-tuned
// version registers itself with CPU_KERNEL (cpu/cpu.h). Only functions of raw pointers and scalars are kept here, so
// no kernel meets Python and the build stays quick.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

// One argument as it is handed over.
union Value {
  void* pointer;
  float f;
  double d;
  int32_t i;
  int64_t l;
  uint8_t B;
  uint32_t I;
  uint64_t L;
  bool b;
};

// What an argument is: the letter of its element's type as in Python's struct module, and how it is passed.
struct Kind {
  char type;
  bool pointer = false, constant = false;
  bool operator==(const Kind& o) const { return type == o.type && pointer == o.pointer && constant == o.constant; }
};

template <class T>
struct Argument;
#define SCALAR(T, letter, member)                                 \
  template <>                                                     \
  struct Argument<T> {                                            \
    static constexpr Kind kind() { return Kind{letter}; }         \
    static T from(const Value& value) { return T(value.member); } \
  };
SCALAR(float, 'f', f)
SCALAR(double, 'd', d)
SCALAR(int32_t, 'i', i)
SCALAR(int64_t, 'q', l)
SCALAR(uint8_t, 'B', B)
SCALAR(uint32_t, 'I', I)
SCALAR(uint64_t, 'Q', L)
SCALAR(bool, '?', b)
#undef SCALAR
template <class T>
struct Argument<const T*> {
  static constexpr Kind kind() { return Kind{Argument<T>::kind().type, true, true}; }
  static const T* from(const Value& value) { return static_cast<const T*>(value.pointer); }
};
template <class T>
struct Argument<T*> {
  static constexpr Kind kind() { return Kind{Argument<T>::kind().type, true, false}; }
  static T* from(const Value& value) { return static_cast<T*>(value.pointer); }
};

typedef void (*RangeFunction)(int64_t begin, int64_t end, const Value* arguments);
typedef void (*WholeFunction)(int64_t count, const Value* arguments);

// One compiled form of a kernel: for one type T and one width of index.
struct Variant {
  RangeFunction run = nullptr;
  std::vector<Kind> kinds;
};

enum Type { FLOAT, DOUBLE, TYPES };
enum Width { NARROW, WIDE, WIDTHS };

struct Kernel {
  std::string family, name;
  std::vector<std::string> arguments;
  bool typed = true;  // a template over T; without one, only the variants of FLOAT are there
  Variant variant[TYPES][WIDTHS];
  WholeFunction tuned[TYPES] = {nullptr, nullptr};
};

// family -> name -> kernel
std::map<std::string, std::map<std::string, Kernel>>& kernels();

// The number of threads of every parallel region, and the calling thread's share of a range.
int threads();

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__linux__)
// Compiled three times and chosen when the library is loaded. For hot loops; an OpenMP region inside is not cloned.
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

// Before a loop whose iterations do not depend on each other, though the compiler cannot know.
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

// Weights in an order of a convolution's own, which stay from call to call in memory that the caller lends, and are
// made again where the plain ones have changed.
#pragma once
#include <atomic>

#include "fingerprint.h"

// The first boundary of 64 bytes in there.
template <class T>
T* boundary(T* memory) {
  return memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64 / sizeof(T);
}

// Of one convolution: what another one left in the memory is not taken for its own.
class Keeper {
 public:
  // Elements of float32 for so many weights, wherever the array begins.
  static int64_t size(int64_t weights) { return sizeof(Head) / sizeof(float) + weights + 16; }

  // What is kept in there, zeros at first. make(to) makes it of w, `values` numbers, and of a factor for each of the
  // `outputs`, if any. same: neither has changed since it was made, if it was.
  template <class Make>
  float* weights(float* kept, const float* w, int64_t values, const float* factor, int64_t outputs, bool same,
                 const Make& make) const {
    float* const begin = boundary(kept);
    Head& head = *reinterpret_cast<Head*>(begin);
    float* const made = begin + sizeof(Head) / sizeof(float);
    const bool own = head.made_by == number;
    if (own && same) return made;
    uint64_t now = fingerprint::of(w, values);
    if (factor) now += fingerprint::mixed(fingerprint::of(factor, outputs));
    if (!own || head.fingerprint != now) {
      make(made);
      head.made_by = number;
      head.fingerprint = now;
    }
    return made;
  }

 private:
  struct Head {
    uint64_t made_by, fingerprint;  // which convolution, and of which weights
    char rest[48];                  // the weights follow at a boundary of 64 bytes
  };

  static uint64_t next_number() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }

  const uint64_t number = next_number();
};

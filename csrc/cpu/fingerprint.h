// A fingerprint of an array, at the speed of reading it: whoever kept something made from the array sees whether it has
// changed since. Two different arrays have the same fingerprint with a probability of about 2^-32 at most, unless
// somebody looks for them.
#pragma once
#include <cstdint>
#include <cstring>

#include "cpu.h"

namespace fingerprint {

constexpr int64_t kPart = 1024;  // words of 32 bits

// Numbers without a pattern, one for each word of a part. splitmix64: G. Steele et al., OOPSLA 2014.
inline uint64_t mixed(uint64_t z) {
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}
struct Keys {
  uint32_t key[kPart];
  Keys() {
    for (int64_t i = 0; i < kPart; ++i) key[i] = uint32_t(mixed(i + 1));
  }
};
inline const uint32_t* keys() {
  static const Keys made;
  return made.key;
}

// NH: products of pairs of words, each plus its key. J. Black et al., UMAC, CRYPTO 1999.
CLONES inline uint64_t of_part(const uint32_t* words, int64_t count, const uint32_t* key) {
  uint64_t sum = 0;
  const int64_t half = count / 2;
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(words + kPart + i);
  for (int64_t i = 0; i < half; ++i) sum += uint64_t(words[i] + key[i]) * uint32_t(words[half + i] + key[half + i]);
  if (count % 2) sum += uint64_t(words[count - 1] + key[count - 1]) * key[0];
  return sum;
}

// Never 0. On all threads.
inline uint64_t of(const float* values, int64_t count) {
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(values);
  const uint32_t* const key = keys();
  const int64_t parts = (count + kPart - 1) / kPart;
  uint64_t sums[256] = {};
  const auto body = [&](int64_t begin, int64_t end, int share) {
    uint64_t sum = 0;
    for (int64_t part = begin; part < end; ++part)
      sum += mixed(of_part(words + part * kPart, std::min(kPart, count - part * kPart), key) + mixed(part));
    sums[share % 256] += sum;
  };
  parallel(parts, body, std::max<int64_t>(16, parts / 255));
  uint64_t sum = uint64_t(count);
  for (const uint64_t one : sums) sum += one;
  return sum ? sum : 1;
}

}  // namespace fingerprint

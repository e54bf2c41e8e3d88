// CRC-32C (Castagnoli), with which LevelDB guards its files.
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace py = pybind11;

namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // of CRC-32C, its bits reversed

using Table = std::array<std::array<uint32_t, 256>, 8>;

// table[k][b]: what byte b does to the sum, k bytes before the end of a group of eight.
constexpr Table make_table() {
  Table table{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t sum = b;
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? kPolynomial : 0);
    table[0][b] = sum;
  }
  for (int k = 1; k < 8; ++k)
    for (uint32_t b = 0; b < 256; ++b) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 255];
  return table;
}

constexpr Table kTable = make_table();

#if defined(__x86_64__)
// The processor's own instruction, for those that have it.
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(const uint8_t* bytes, size_t count, uint32_t before) {
  uint64_t sum = uint32_t(~before);
  for (; count >= 8; bytes += 8, count -= 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes, 8);
    sum = __builtin_ia32_crc32di(sum, eight);
  }
  for (; count; ++bytes, --count) sum = __builtin_ia32_crc32qi(uint32_t(sum), *bytes);
  return ~uint32_t(sum);
}
#endif

uint32_t crc32c(const uint8_t* bytes, size_t count, uint32_t before) {
  uint32_t sum = ~before;
  for (; count >= 8; bytes += 8, count -= 8) {
    uint32_t low, high;  // little-endian, as every machine that this is built for
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= sum;
    sum = kTable[7][low & 255] ^ kTable[6][low >> 8 & 255] ^ kTable[5][low >> 16 & 255] ^ kTable[4][low >> 24] ^
          kTable[3][high & 255] ^ kTable[2][high >> 8 & 255] ^ kTable[1][high >> 16 & 255] ^ kTable[0][high >> 24];
  }
  for (; count; ++bytes, --count) sum = sum >> 8 ^ kTable[0][(sum ^ *bytes) & 255];
  return ~sum;
}

}  // namespace

void define_checksum(py::module_& m) {
  m.def(
      "crc32c",
      [](const py::buffer& buffer, uint32_t before, [[maybe_unused]] bool instruction) {
        const py::buffer_info info = buffer.request();
        const auto* bytes = static_cast<const uint8_t*>(info.ptr);
        const size_t count = size_t(info.size) * size_t(info.itemsize);
        py::gil_scoped_release release;
#if defined(__x86_64__)
        if (instruction && __builtin_cpu_supports("sse4.2")) return crc32c_sse42(bytes, count, before);
#endif
        return crc32c(bytes, count, before);
      },
      py::arg("bytes"), py::arg("before") = 0, py::arg("instruction") = true,
      "The CRC-32C of contiguous bytes; `before` is that of what stands before them. `instruction`: by the processor's "
      "own, if it has one.");
}

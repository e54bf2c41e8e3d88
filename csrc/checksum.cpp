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
      [](const py::buffer& buffer, uint32_t before) {
        const py::buffer_info info = buffer.request();
        const auto* bytes = static_cast<const uint8_t*>(info.ptr);
        const size_t count = size_t(info.size) * size_t(info.itemsize);
        py::gil_scoped_release release;
        return crc32c(bytes, count, before);
      },
      py::arg("bytes"), py::arg("before") = 0,
      "The CRC-32C of contiguous bytes; `before` is that of what stands before them.");
}

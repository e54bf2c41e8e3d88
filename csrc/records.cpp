// A run of a database's records, copied at once: their pixels and labels, without a word of Python for each.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace py = pybind11;

namespace {

// A number of protobuf's: seven bits to a byte. False if it does not end, or has more than 64 bits.
bool varint(const uint8_t*& at, const uint8_t* end, uint64_t& value) {
  value = 0;
  for (int shift = 0; at < end && shift < 64; shift += 7) {
    const uint8_t byte = *at++;
    if (shift == 63 && byte > 1) return false;
    value |= uint64_t(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

// What a Datum of bytes says.
struct Plain {
  uint64_t sizes[3] = {0, 0, 0};  // channels, height, width
  const uint8_t* data = nullptr;
  uint64_t count = 0;
  uint64_t label = 0;
};

// Reads a Datum as layerforge/datum.py does. False for one that is encoded, has floats, other fields or damage: those
// are read there, which also says what is wrong with them.
bool read(const uint8_t* at, const uint8_t* end, Plain& plain) {
  while (at < end) {
    const uint8_t tag = *at++;
    uint64_t value;
    if (!varint(at, end, value)) return false;
    switch (tag) {
      case 1 << 3:
      case 2 << 3:
      case 3 << 3:
        plain.sizes[(tag >> 3) - 1] = value;
        break;
      case 4 << 3 | 2:  // data: so many bytes
        if (value > uint64_t(end - at)) return false;
        plain.data = at;
        plain.count = value;
        at += value;
        break;
      case 5 << 3:
        plain.label = value;
        break;
      case 7 << 3:  // encoded
        if (value) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

// The bytes that Python objects lend, given back at the end, when the GIL is held again.
struct Buffers {
  std::vector<Py_buffer> all;
  explicit Buffers(const py::list& values) {
    all.reserve(values.size());
    for (const py::handle value : values) {
      Py_buffer buffer;
      if (PyObject_GetBuffer(value.ptr(), &buffer, PyBUF_SIMPLE)) {
        release();
        throw py::error_already_set();
      }
      all.push_back(buffer);
    }
  }
  Buffers(const Buffers&) = delete;
  ~Buffers() { release(); }
  void release() {
    for (Py_buffer& buffer : all) PyBuffer_Release(&buffer);
    all.clear();
  }
};

py::list copy_records(const py::list& values, const std::array<uint64_t, 3>& shape,
                      py::array_t<uint8_t, py::array::c_style> pixels, py::array_t<double, py::array::c_style> labels) {
  const uint64_t count = shape[0] * shape[1] * shape[2];
  if (pixels.ndim() != 2 || labels.ndim() != 1 || pixels.shape(0) != py::ssize_t(values.size()) ||
      labels.shape(0) != pixels.shape(0) || uint64_t(pixels.shape(1)) < count)
    throw py::value_error("copy_records: pixels (N, capacity) and labels (N) for N values are wanted");
  const Buffers buffers(values);
  uint8_t* const out = pixels.mutable_data();
  double* const label = labels.mutable_data();
  const int64_t capacity = pixels.shape(1);
  std::vector<size_t> left;
  {
    py::gil_scoped_release release;
    for (size_t i = 0; i < buffers.all.size(); ++i) {
      const auto* begin = static_cast<const uint8_t*>(buffers.all[i].buf);
      Plain plain;
      if (!read(begin, begin + buffers.all[i].len, plain) || plain.count != count ||
          !std::equal(shape.begin(), shape.end(), plain.sizes)) {
        left.push_back(i);
        continue;
      }
      std::memcpy(out + int64_t(i) * capacity, plain.data, count);
      label[i] = double(int64_t(plain.label));
    }
  }
  py::list places;
  for (const size_t i : left) places.append(i);
  return places;
}

}  // namespace

void define_records(py::module_& m) {
  m.def("copy_records", &copy_records, py::arg("values"), py::arg("shape"), py::arg("pixels").noconvert(),
        py::arg("labels").noconvert(),
        "Copies the pixels and labels of serialized Datums that hold bytes of this shape, (C, H, W); the places of "
        "those that are anything else.");
}

// oneDNN, called through a table of addresses: the library is opened by path when it is first needed, nothing is
// linked.
//
// Only its headers are needed to compile this. Everything here raises std::runtime_error where oneDNN reports a
// failure.
#pragma once
#include <oneapi/dnnl/dnnl.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace onednn {

#define ONEDNN_FUNCTIONS(_)                                  \
  _(dnnl_engine_create)                                      \
  _(dnnl_stream_create)                                      \
  _(dnnl_stream_wait)                                        \
  _(dnnl_memory_desc_create_with_tag)                        \
  _(dnnl_memory_desc_destroy)                                \
  _(dnnl_memory_desc_equal)                                  \
  _(dnnl_memory_desc_get_size)                               \
  _(dnnl_memory_create)                                      \
  _(dnnl_memory_destroy)                                     \
  _(dnnl_primitive_attr_create)                              \
  _(dnnl_primitive_attr_destroy)                             \
  _(dnnl_primitive_attr_set_scratchpad_mode)                 \
  _(dnnl_primitive_attr_set_post_ops)                        \
  _(dnnl_post_ops_create)                                    \
  _(dnnl_post_ops_destroy)                                   \
  _(dnnl_post_ops_append_sum)                                \
  _(dnnl_post_ops_append_eltwise)                            \
  _(dnnl_post_ops_append_binary)                             \
  _(dnnl_convolution_forward_primitive_desc_create)          \
  _(dnnl_convolution_backward_data_primitive_desc_create)    \
  _(dnnl_convolution_backward_weights_primitive_desc_create) \
  _(dnnl_reorder_primitive_desc_create)                      \
  _(dnnl_primitive_desc_query)                               \
  _(dnnl_primitive_desc_query_md)                            \
  _(dnnl_primitive_desc_next_impl)                           \
  _(dnnl_primitive_desc_destroy)                             \
  _(dnnl_primitive_create)                                   \
  _(dnnl_primitive_execute)                                  \
  _(dnnl_primitive_destroy)                                  \
  _(dnnl_sgemm)                                              \
  _(dnnl_version)

struct Library {
#define ONEDNN_MEMBER(name) decltype(&::name) name = nullptr;
  ONEDNN_FUNCTIONS(ONEDNN_MEMBER)
#undef ONEDNN_MEMBER
  dnnl_engine_t engine = nullptr;
};

// The library; an error before load() has opened it.
const Library& library();
void load(const std::string& path);

void check(dnnl_status_t status, const char* what);

// How many threads oneDNN takes, on the calling thread, while this lives.
class WithThreads {
 public:
  explicit WithThreads(int count);
  ~WithThreads();

 private:
  const int before;
};

struct Destroy {
  void operator()(dnnl_memory_desc_t desc) const { library().dnnl_memory_desc_destroy(desc); }
  void operator()(dnnl_primitive_desc_t desc) const { library().dnnl_primitive_desc_destroy(desc); }
  void operator()(dnnl_primitive_t primitive) const { library().dnnl_primitive_destroy(primitive); }
  void operator()(dnnl_primitive_attr_t attributes) const { library().dnnl_primitive_attr_destroy(attributes); }
  void operator()(dnnl_post_ops_t operations) const { library().dnnl_post_ops_destroy(operations); }
};
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

typedef Owned<dnnl_memory_desc_t> Layout;
typedef Owned<dnnl_primitive_attr_t> Attributes;

// An array of float32: its axes, and how they lie in memory.
Layout layout(const std::vector<int64_t>& axes, dnnl_format_tag_t tag);
// The tag of plain memory, last axis fastest.
dnnl_format_tag_t plain(size_t axes);

// Scratchpads are ours; `add`: results are added to what is there (reorders only); `affine`, where given, is the layout
// of two arrays: results are multiplied with the first, and the second is added; `term`, where given, is the layout of
// an array that is added then; `relu`: at last they pass through max(y, 0), which makes 0 of NaN unless it KEEPS_NAN.
enum Relu { NONE, RELU, KEEPS_NAN };
Attributes attributes(bool add = false, const_dnnl_memory_desc_t affine = nullptr,
                      const_dnnl_memory_desc_t term = nullptr, Relu relu = NONE);

// A primitive: an operation on arrays in given layouts. Its code is made when it first runs.
class Operation {
 public:
  explicit Operation(dnnl_primitive_desc_t desc) : desc(desc) {}
  static std::unique_ptr<Operation> reorder(const_dnnl_memory_desc_t from, const_dnnl_memory_desc_t to, bool add);

  const_dnnl_memory_desc_t argument(int name) const;
  size_t scratchpad() const;  // bytes
  std::string implementation() const;

  struct Given {
    int name;
    void* data;
  };
  void run(const std::vector<Given>& arguments, void* scratchpad) const;

  const Owned<dnnl_primitive_desc_t> desc;

 private:
  mutable std::once_flag made;
  mutable Owned<dnnl_primitive_t> primitive;
};

// An operation whose arguments come and go in layouts of the caller's choice. Where the operation wants another one,
// the values are reordered, to and from memory within the scratch.
class Task {
 public:
  explicit Task(dnnl_primitive_desc_t desc) : operation(desc) {}
  void reads(int name, const_dnnl_memory_desc_t outside) { connect(name, outside, true, false); }
  void writes(int name, const_dnnl_memory_desc_t outside) { connect(name, outside, false, false); }
  void adds_to(int name, const_dnnl_memory_desc_t outside) { connect(name, outside, false, true); }

  size_t scratch() const;  // bytes, from a 64-byte boundary on
  // arrays: in the order they were connected. `ready`: the connection whose array lies already as it lies inside.
  void run(std::initializer_list<void*> arrays, char* scratch, int ready = -1) const;

  // For somebody who keeps what a connection reads as it lies inside: bytes, 0 where that is as it lies outside.
  size_t kept(int connection) const;
  void keep(int connection, void* from, void* to, char* scratch) const;

  const Operation operation;

 private:
  struct Connection {
    int name;
    bool reads;
    size_t bytes;                        // of the array inside
    std::unique_ptr<Operation> reorder;  // none: the array is used as it lies
  };
  void connect(int name, const_dnnl_memory_desc_t outside, bool reads, bool add);
  size_t scratchpad() const;  // bytes, for the operation and the reorders in turn

  std::vector<Connection> connections;
};

// onednn_gemm.cpp
void define_gemm(pybind11::module_& m);

}  // namespace onednn

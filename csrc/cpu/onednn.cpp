#include "onednn.h"

#include <dlfcn.h>
#include <omp.h>

#include <algorithm>
#include <stdexcept>

namespace onednn {

static Library table;

const Library& library() {
  if (!table.engine) throw std::runtime_error("oneDNN is not open: ask engines.onednn.available() first");
  return table;
}

void check(dnnl_status_t status, const char* what) {
  if (status == dnnl_success) return;
  throw std::runtime_error(std::string("oneDNN: ") + what + " failed with status " + std::to_string(int(status)));
}

void load(const std::string& path) {
  if (table.engine) return;
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(dlerror());
  Library found;
#define ONEDNN_FIND(name)                                                    \
  found.name = reinterpret_cast<decltype(found.name)>(dlsym(handle, #name)); \
  if (!found.name) throw std::runtime_error(path + " has no " #name);
  ONEDNN_FUNCTIONS(ONEDNN_FIND)
#undef ONEDNN_FIND
  const dnnl_version_t* version = found.dnnl_version();
  if (version->major != DNNL_VERSION_MAJOR || version->minor < DNNL_VERSION_MINOR)
    throw std::runtime_error(path + " is version " + std::to_string(version->major) + "." +
                             std::to_string(version->minor) + ", but " + std::to_string(DNNL_VERSION_MAJOR) + "." +
                             std::to_string(DNNL_VERSION_MINOR) + " was compiled for");
  check(found.dnnl_engine_create(&found.engine, dnnl_cpu, 0), "dnnl_engine_create");
  table = found;
}

WithThreads::WithThreads(int count) : before(omp_get_max_threads()) { omp_set_num_threads(count); }
WithThreads::~WithThreads() { omp_set_num_threads(before); }

Layout layout(const std::vector<int64_t>& axes, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t desc;
  check(library().dnnl_memory_desc_create_with_tag(&desc, int(axes.size()), axes.data(), dnnl_f32, tag),
        "dnnl_memory_desc_create_with_tag");
  return Layout(desc);
}

dnnl_format_tag_t plain(size_t axes) {
  constexpr dnnl_format_tag_t tags[] = {dnnl_a, dnnl_ab, dnnl_abc, dnnl_abcd, dnnl_abcde, dnnl_abcdef};
  if (axes < 1 || axes > 6) throw std::runtime_error("oneDNN: an array of " + std::to_string(axes) + " axes");
  return tags[axes - 1];
}

Attributes attributes(bool add, const_dnnl_memory_desc_t affine, const_dnnl_memory_desc_t term, Relu relu) {
  dnnl_primitive_attr_t made;
  check(library().dnnl_primitive_attr_create(&made), "dnnl_primitive_attr_create");
  Attributes attributes(made);
  check(library().dnnl_primitive_attr_set_scratchpad_mode(made, dnnl_scratchpad_mode_user),
        "dnnl_primitive_attr_set_scratchpad_mode");
  dnnl_post_ops_t list;
  check(library().dnnl_post_ops_create(&list), "dnnl_post_ops_create");
  const Owned<dnnl_post_ops_t> owned(list);
  if (add) check(library().dnnl_post_ops_append_sum(list, 1, 0, dnnl_data_type_undef), "dnnl_post_ops_append_sum");
  if (affine)
    for (dnnl_alg_kind_t kind : {dnnl_binary_mul, dnnl_binary_add})
      check(library().dnnl_post_ops_append_binary(list, kind, affine), "dnnl_post_ops_append_binary");
  if (term) check(library().dnnl_post_ops_append_binary(list, dnnl_binary_add, term), "dnnl_post_ops_append_binary");
  // With so steep a slope, x min(1, max(0, slope x)) is max(0, x), but for NaN, which stays, and minus infinity, NaN.
  const dnnl_alg_kind_t kind = relu == KEEPS_NAN ? dnnl_eltwise_hardswish : dnnl_eltwise_relu;
  const float slope = relu == KEEPS_NAN ? 1e30f : 0;
  if (relu) check(library().dnnl_post_ops_append_eltwise(list, kind, slope, 0), "dnnl_post_ops_append_eltwise");
  check(library().dnnl_primitive_attr_set_post_ops(made, list), "dnnl_primitive_attr_set_post_ops");
  return attributes;
}

std::unique_ptr<Operation> Operation::reorder(const_dnnl_memory_desc_t from, const_dnnl_memory_desc_t to, bool add) {
  dnnl_primitive_desc_t desc;
  check(
      library().dnnl_reorder_primitive_desc_create(&desc, from, table.engine, to, table.engine, attributes(add).get()),
      "dnnl_reorder_primitive_desc_create");
  return std::make_unique<Operation>(desc);
}

const_dnnl_memory_desc_t Operation::argument(int name) const {
  return table.dnnl_primitive_desc_query_md(desc.get(), dnnl_query_exec_arg_md, name);
}

size_t Operation::scratchpad() const { return table.dnnl_memory_desc_get_size(argument(DNNL_ARG_SCRATCHPAD)); }

std::string Operation::implementation() const {
  const char* name = "";
  check(library().dnnl_primitive_desc_query(desc.get(), dnnl_query_impl_info_str, 0, &name),
        "dnnl_primitive_desc_query");
  return name;
}

void Operation::run(const std::vector<Given>& arguments, void* scratchpad) const {
  std::call_once(made, [&] {
    dnnl_primitive_t handle;
    check(library().dnnl_primitive_create(&handle, desc.get()), "dnnl_primitive_create");
    primitive.reset(handle);
  });
  constexpr size_t most = 8;
  dnnl_exec_arg_t list[most];
  size_t count = 0;
  const auto give = [&](int name, void* data) {
    list[count].arg = name;
    check(library().dnnl_memory_create(&list[count].memory, argument(name), table.engine, data), "dnnl_memory_create");
    ++count;
  };
  for (const Given& one : arguments) give(one.name, one.data);
  give(DNNL_ARG_SCRATCHPAD, scratchpad);
  static thread_local dnnl_stream_t stream = nullptr;
  if (!stream)
    check(library().dnnl_stream_create(&stream, table.engine, dnnl_stream_default_flags), "dnnl_stream_create");
  const dnnl_status_t status = table.dnnl_primitive_execute(primitive.get(), stream, int(count), list);
  table.dnnl_stream_wait(stream);
  while (count) table.dnnl_memory_destroy(list[--count].memory);
  check(status, "dnnl_primitive_execute");
}

static size_t align(size_t bytes) { return (bytes + 63) / 64 * 64; }

void Task::connect(int name, const_dnnl_memory_desc_t outside, bool reads, bool add) {
  const const_dnnl_memory_desc_t inside = operation.argument(name);
  Connection made{name, reads, table.dnnl_memory_desc_get_size(inside), nullptr};
  if (add || !table.dnnl_memory_desc_equal(inside, outside))
    made.reorder = reads ? Operation::reorder(outside, inside, false) : Operation::reorder(inside, outside, add);
  connections.push_back(std::move(made));
}

size_t Task::scratchpad() const {
  size_t bytes = operation.scratchpad();
  for (const Connection& one : connections)
    if (one.reorder) bytes = std::max(bytes, one.reorder->scratchpad());
  return align(bytes);
}

size_t Task::scratch() const {
  size_t bytes = scratchpad();
  for (const Connection& one : connections)
    if (one.reorder) bytes += align(one.bytes);
  return bytes;
}

size_t Task::kept(int connection) const { return connections[connection].reorder ? connections[connection].bytes : 0; }

void Task::keep(int connection, void* from, void* to, char* scratch) const {
  connections[connection].reorder->run({{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}, scratch);
}

void Task::run(std::initializer_list<void*> arrays, char* scratch, int ready) const {
  std::vector<Operation::Given> arguments;
  char* free = scratch + scratchpad();
  void* const* array = arrays.begin();
  for (const Connection& one : connections) {
    void* data = *array++;
    if (one.reorder && &one != connections.data() + ready) {
      if (one.reads) one.reorder->run({{DNNL_ARG_FROM, data}, {DNNL_ARG_TO, free}}, scratch);
      data = free;
      free += align(one.bytes);
    }
    arguments.push_back({one.name, data});
  }
  operation.run(arguments, scratch);
  array = arrays.begin();
  for (size_t n = 0; n < connections.size(); ++n, ++array) {
    const Connection& one = connections[n];
    if (one.reorder && !one.reads)
      one.reorder->run({{DNNL_ARG_FROM, arguments[n].data}, {DNNL_ARG_TO, *array}}, scratch);
  }
}

}  // namespace onednn

// The Python module _sambalance_cpu. It checks shapes once more (a wrong one would read beyond an array) and nothing
// else: kernels/cpu/__init__.py is its only caller.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "workers.h"

namespace nb = nanobind;
using namespace sambalance;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

const Kernels& kernels_of(const std::string& isa, bool double_precision) {
  std::string names;
  for (const InstructionSet& set : available_instruction_sets()) {
    if (isa == set.name) return double_precision ? *set.float64 : *set.float32;
    names += std::string(names.empty() ? "" : ", ") + set.name;
  }
  if (names.empty()) throw nb::value_error("this processor has not even SSE4.2; use engine='reference'");
  throw nb::value_error(("instruction set '" + isa + "' is not available; this machine has " + names).c_str());
}

// An array [runs or 1, ...] with `size` numbers per run.
template <class T>
Rows<T> rows(const In<T>& array, int64_t runs, int64_t size, const char* name) {
  const bool fits = array.ndim() >= 1 && (int64_t(array.shape(0)) == runs || array.shape(0) == 1) &&
                    int64_t(array.size()) == int64_t(array.shape(0)) * size;
  if (!fits) throw nb::value_error((std::string(name) + " has an unexpected shape").c_str());
  return {array.data(), array.shape(0) == 1 ? 0 : size};
}

template <class T>
T* filled(const Out<T>& array, int64_t size, const char* name) {
  if (int64_t(array.size()) != size) throw nb::value_error((std::string(name) + " has an unexpected size").c_str());
  return array.data();
}

struct Spec {
  int network, loss, norm, norm_over, effect;
  double adaptive_eta;
  int64_t runs, samples, dimension, width, patches, windows, first_perturbed, end_perturbed, steps, batch_size;
  bool record_layers;
};

std::vector<double*> layer_outputs(const std::vector<Out<double>>& arrays, const Problem& p, int64_t rows) {
  if (arrays.empty()) return std::vector<double*>(size_t(p.depth), nullptr);
  if (int64_t(arrays.size()) != p.depth) throw nb::value_error("one output array per layer is needed");
  std::vector<double*> pointers;
  for (int64_t l = 0; l < p.depth; ++l) {
    pointers.push_back(filled(arrays[size_t(l)], rows * p.layer_size[l], "a layer output"));
  }
  return pointers;
}

void train(const Spec& spec, bool double_precision, int threads, const std::string& isa, const In<double>& features,
           const In<double>& labels, const In<double>& sample_weights, const In<double>& feature_scale,
           const std::vector<In<double>>& layers, const In<double>& eta, const In<double>& rho,
           const In<double>& weight_decay, const In<double>& momentum, const In<int64_t>& sam_from,
           const In<int64_t>& sam_until, const In<uint64_t>& seeds, const In<uint64_t>& thresholds,
           const In<int64_t>& record_steps, const In<double>& loss_levels,
           const std::vector<Out<double>>& out_layers, const Out<double>& coefficients, const Out<double>& loss,
           const Out<double>& gradient_norm, const Out<int64_t>& stopped_step, const Out<double>& record_coefficients,
           const Out<double>& record_loss, const Out<double>& record_norm,
           const std::vector<Out<double>>& record_layers, const Out<int64_t>& crossing_step,
           const Out<double>& crossing_coefficients, const Out<double>& crossing_loss,
           const std::vector<Out<double>>& crossing_layers, const nb::object& progress) {
  Problem p{};
  p.runs = spec.runs, p.samples = spec.samples, p.dimension = spec.dimension, p.width = spec.width;
  p.patches = spec.patches, p.windows = spec.windows;
  if (p.windows < 1 || p.patches % p.windows != 0 || p.dimension % p.patches != 0) {
    throw nb::value_error("the windows do not divide the patches, or these a sample");
  }
  p.depth = int64_t(layers.size());
  if (p.depth < 2 || p.depth > max_depth) {
    throw nb::value_error(("networks of 2 to " + std::to_string(max_depth) + " layers are possible").c_str());
  }
  p.network = Network(spec.network), p.loss = Loss(spec.loss), p.norm = Norm(spec.norm);
  p.norm_over = NormGroup(spec.norm_over), p.adaptive_eta = spec.adaptive_eta;
  p.effect = Effect(spec.effect);
  p.first_perturbed = spec.first_perturbed, p.end_perturbed = spec.end_perturbed;
  if (p.first_perturbed < 0 || p.end_perturbed > p.depth || p.first_perturbed >= p.end_perturbed) {
    throw nb::value_error("the perturbed layers are not among the layers");
  }
  p.features = rows(features, p.runs, p.samples * p.dimension, "features");
  p.labels = rows(labels, p.runs, p.samples, "labels");
  p.sample_weights = rows(sample_weights, p.runs, p.samples, "sample_weights");
  p.feature_scale = rows(feature_scale, p.runs, p.dimension, "feature_scale");
  for (int64_t l = 0; l < p.depth; ++l) {
    const bool matrix = p.network != Network::diagonal && l == 0;
    p.layer_size[l] = p.width * (matrix ? p.dimension / p.patches : l == 0 ? 1 : p.windows);
    p.layers[l] = rows(layers[size_t(l)], p.runs, p.layer_size[l], "a layer");
  }
  p.eta = rows(eta, p.runs, 1, "eta"), p.rho = rows(rho, p.runs, 1, "rho");
  p.weight_decay = rows(weight_decay, p.runs, 1, "weight_decay");
  p.momentum = rows(momentum, p.runs, 1, "momentum");
  p.steps = spec.steps, p.batch_size = spec.batch_size;
  p.sam_from = rows(sam_from, p.runs, 1, "sam_from"), p.sam_until = rows(sam_until, p.runs, 1, "sam_until");
  p.every_step_perturbs = true;
  for (size_t i = 0; i < sam_from.size(); ++i) p.every_step_perturbs &= sam_from.data()[i] <= 0;
  for (size_t i = 0; i < sam_until.size(); ++i) p.every_step_perturbs &= sam_until.data()[i] >= p.steps;
  p.seeds = rows(seeds, p.runs, 1, "seeds");
  p.thresholds = rows(thresholds, p.runs, p.samples - 1, "thresholds");
  if (thresholds.shape(0) == 1) p.thresholds.stride = 0;
  p.records = int64_t(record_steps.size()), p.levels = int64_t(loss_levels.size());
  p.record_steps = record_steps.data(), p.loss_levels = loss_levels.data();
  p.record_layers = spec.record_layers;

  Result out{};
  const auto fill = [&](double** into, const std::vector<Out<double>>& arrays, int64_t rows) {
    const std::vector<double*> pointers = layer_outputs(arrays, p, rows);
    for (int64_t l = 0; l < p.depth; ++l) into[l] = pointers[size_t(l)];
  };
  const int64_t b = p.runs, d = p.dimension, r = p.records, k = p.levels;
  fill(out.layers, out_layers, b);
  out.coefficients = filled(coefficients, b * d, "coefficients");
  out.loss = filled(loss, b, "loss");
  out.gradient_norm = filled(gradient_norm, b, "gradient_norm");
  out.stopped_step = filled(stopped_step, b, "stopped_step");
  out.record_coefficients = filled(record_coefficients, b * r * d, "record_coefficients");
  out.record_loss = filled(record_loss, b * r, "record_loss");
  out.record_norm = filled(record_norm, b * r, "record_norm");
  out.crossing_step = filled(crossing_step, b * k, "crossing_step");
  out.crossing_coefficients = filled(crossing_coefficients, b * k * d, "crossing_coefficients");
  out.crossing_loss = filled(crossing_loss, b * k, "crossing_loss");
  if (p.record_layers) {
    if (record_layers.empty() || crossing_layers.empty()) throw nb::value_error("layer records need their arrays");
    fill(out.record_layers, record_layers, b * r);
    fill(out.crossing_layers, crossing_layers, b * k);
  }

  const Kernels& kernels = kernels_of(isa, double_precision);
  nb::gil_scoped_release release;
  train_all(kernels, p, out, threads < 1 ? available_cpus() : threads, 50, [&](int64_t done) {
    nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress.is_none()) progress(done, p.steps);
  });
}

nb::ndarray<double, nb::numpy> evaluate(int function, const In<double>& values, bool double_precision,
                                        const std::string& isa) {
  auto* out = new double[values.size()];
  nb::capsule owner(out, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  kernels_of(isa, double_precision).evaluate(function, values.data(), out, int64_t(values.size()));
  const size_t shape[1] = {values.size()};
  return nb::ndarray<double, nb::numpy>(out, 1, shape, owner);
}

}  // namespace

NB_MODULE(_sambalance_cpu, module) {
  module.attr("interface_version") = interface_version;
  module.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const InstructionSet& set : available_instruction_sets()) names.push_back(set.name);
    return names;
  });
  module.def("available_cpus", available_cpus);
  module.def(
      "lanes", [](bool double_precision, const std::string& isa) { return kernels_of(isa, double_precision).lanes; },
      nb::arg("double_precision"), nb::arg("isa"));
  module.def(
      "measured_peak",
      [](bool double_precision, int threads, double seconds, const std::string& isa) {
        const Kernels& kernels = kernels_of(isa, double_precision);
        nb::gil_scoped_release release;
        return measured_peak(kernels, threads, seconds);
      },
      nb::arg("double_precision"), nb::arg("threads"), nb::arg("seconds"), nb::arg("isa"),
      "Vector multiply-adds per second, all threads together.");
  nb::class_<Spec>(module, "Spec")
      .def(nb::init<>())
      .def_rw("network", &Spec::network)
      .def_rw("loss", &Spec::loss)
      .def_rw("norm", &Spec::norm)
      .def_rw("norm_over", &Spec::norm_over)
      .def_rw("adaptive_eta", &Spec::adaptive_eta)
      .def_rw("effect", &Spec::effect)
      .def_rw("runs", &Spec::runs)
      .def_rw("samples", &Spec::samples)
      .def_rw("dimension", &Spec::dimension)
      .def_rw("width", &Spec::width)
      .def_rw("patches", &Spec::patches)
      .def_rw("windows", &Spec::windows)
      .def_rw("first_perturbed", &Spec::first_perturbed)
      .def_rw("end_perturbed", &Spec::end_perturbed)
      .def_rw("steps", &Spec::steps)
      .def_rw("batch_size", &Spec::batch_size)
      .def_rw("record_layers", &Spec::record_layers);
  module.def("evaluate", evaluate, nb::arg("function"), nb::arg("values"), nb::arg("double_precision"), nb::arg("isa"));
  module.def("train", train, nb::arg("spec"), nb::arg("double_precision"), nb::arg("threads"), nb::arg("isa"),
             nb::arg("features"), nb::arg("labels"), nb::arg("sample_weights"), nb::arg("feature_scale"),
             nb::arg("layers"), nb::arg("eta"), nb::arg("rho"), nb::arg("weight_decay"), nb::arg("momentum"),
             nb::arg("sam_from"), nb::arg("sam_until"), nb::arg("seeds"), nb::arg("thresholds"),
             nb::arg("record_steps"), nb::arg("loss_levels"),
             nb::arg("out_layers"), nb::arg("coefficients"), nb::arg("loss"), nb::arg("gradient_norm"),
             nb::arg("stopped_step"), nb::arg("record_coefficients"), nb::arg("record_loss"), nb::arg("record_norm"),
             nb::arg("record_layers"), nb::arg("crossing_step"), nb::arg("crossing_coefficients"),
             nb::arg("crossing_loss"), nb::arg("crossing_layers"), nb::arg("progress").none());
}

// Proves a bundle with OpenVINO: runs the golden image, decodes, compares with the golden vectors. `golden-openvino BUNDLE`
#include <openvino/openvino.hpp>

#include "golden.hpp"

int main(int count, char** arguments) try {
    golden::require(count == 2, "usage: golden-openvino BUNDLE");
    const golden::Bundle bundle(arguments[1]);
    ov::Core core;
    core.set_property("CPU", {ov::hint::inference_precision(ov::element::f32), ov::inference_num_threads(1)});
    ov::CompiledModel model = core.compile_model(bundle.entry(".xml"), "CPU");
    ov::InferRequest request = model.create_infer_request();
    const auto& shape = bundle.input.shape;
    request.set_input_tensor(ov::Tensor(ov::element::f32, ov::Shape(shape), const_cast<float*>(bundle.input.values.data())));
    request.infer();
    const ov::Tensor output = request.get_output_tensor(0);
    golden::Tensor found{{output.get_shape().begin() + 1, output.get_shape().end()}, {}};
    found.values.assign(output.data<const float>(), output.data<const float>() + output.get_size());
    return golden::verdict(bundle, found, bundle.allowed(false));
} catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 1;
}

// Proves a bundle with ncnn: runs the golden image, decodes, compares with the golden vectors. `golden-ncnn BUNDLE`
#include <cpu.h>

#include "golden.hpp"
#include "network.hpp"  // of yolodeploy's runner, which measures on phones

int main(int count, char** arguments) try {
    golden::require(count == 2 || count == 3, "usage: golden-ncnn BUNDLE [THREADS]");
    const golden::Bundle bundle(arguments[1]);
    const std::string param = bundle.entry(".param"), bin = param.substr(0, param.rfind('.')) + ".bin";
    const auto& contract = bundle.contract;
    const Network network(param, bin, contract.at("inputs").at(0).at("name"), {contract.at("outputs").at(0).at("name")}, count == 3 ? std::stoi(arguments[2]) : 1);
    const auto& shape = bundle.input.shape;
    Array found = network.run(bundle.input.values.data(), int(shape[1]), int(shape[2]), int(shape[3])).at(0);
    return golden::verdict(bundle, {found.shape, found.values}, bundle.allowed(ncnn::cpu_support_arm_asimdhp()));
} catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 1;
}

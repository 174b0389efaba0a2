// A network in ncnn, run as yolodeploy measures it: ncnn's defaults but for the threads and Vulkan, which is off.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <net.h>

struct Array {  // row-major, without a batch axis
    std::vector<size_t> shape;
    std::vector<float> values;
};

class Network {
public:
    Network(const std::string& param, const std::string& bin, std::string input, std::vector<std::string> outputs, int threads)
        : input_(std::move(input)), outputs_(std::move(outputs)) {
        net_.opt.num_threads = threads;
        net_.opt.use_vulkan_compute = false;
        if (net_.load_param(param.c_str()) != 0)
            throw std::runtime_error("ncnn cannot read " + param + ": it is damaged, or has a layer that this ncnn was built without");
        load_weights(bin);
    }

    // Runs one image, planes in 0..1; returns the outputs in the order of their names.
    std::vector<Array> run(const float* image, int channels, int height, int width) const {
        ncnn::Mat pixels(width, height, channels);
        const size_t plane = size_t(width) * height;
        for (int c = 0; c < channels; c++) std::memcpy(pixels.channel(c), image + c * plane, plane * sizeof(float));
        ncnn::Extractor extractor = net_.create_extractor();
        if (extractor.input(input_.c_str(), pixels) != 0) throw std::runtime_error("the network has no input " + input_);
        std::vector<Array> found;
        for (const std::string& name : outputs_) {
            ncnn::Mat blob;
            if (extractor.extract(name.c_str(), blob) != 0 || blob.empty() || blob.elemsize != sizeof(float))
                throw std::runtime_error("ncnn cannot compute the output " + name);
            found.push_back(copied(blob));
        }
        return found;
    }

private:
    // ncnn itself does not notice weights that are left over.
    void load_weights(const std::string& bin) {
        const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(bin.c_str(), "rb"), std::fclose);
        if (!file) throw std::runtime_error("cannot open " + bin);
        const bool loaded = net_.load_model(file.get()) == 0;
        const long read = std::ftell(file.get());
        std::fseek(file.get(), 0, SEEK_END);
        if (!loaded || read != std::ftell(file.get()))
            throw std::runtime_error(bin + " does not fit its network: it is damaged, or not the file that belongs to it");
    }

    static Array copied(const ncnn::Mat& blob) {  // channels may be padded in memory
        Array array;
        if (blob.dims >= 3) array.shape.push_back(blob.c);
        if (blob.dims >= 4) array.shape.push_back(blob.d);
        if (blob.dims >= 2) array.shape.push_back(blob.h);
        array.shape.push_back(blob.w);
        const size_t plane = size_t(blob.w) * blob.h * blob.d;
        for (int c = 0; c < blob.c; c++) {
            const float* values = blob.channel(c);
            array.values.insert(array.values.end(), values, values + plane);
        }
        return array;
    }

    ncnn::Net net_;
    std::string input_;
    std::vector<std::string> outputs_;
};

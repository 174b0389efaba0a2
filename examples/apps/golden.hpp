// A bundle, read from its own files, and the comparison of what a runtime returns with its golden vectors.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace golden {

struct Tensor { std::vector<size_t> shape; std::vector<float> values; };
struct Found { int label; double score; std::array<double, 4> box; };  // left, top, right, bottom
struct Tolerance { double pixels, score; bool numbers = true; };  // compared number by number, too

inline void require(bool right, const std::string& message) { if (!right) throw std::runtime_error(message); }

inline std::string bytes_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    require(bool(file), "cannot open " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline Tensor read_npy(const std::string& path) {  // version 1, little-endian float32, row by row: numpy.lib.format
    const std::string data = bytes_of(path), wrong = path + " is damaged: ";
    require(data.size() > 10 && data.compare(0, 7, "\x93NUMPY\x01") == 0, wrong + "it is no .npy file of version 1");
    const size_t start = 10 + uint8_t(data[8]) + 256 * uint8_t(data[9]);
    const std::string head = data.substr(10, start - 10);
    const size_t open = head.find("'shape': (");
    require(open != head.npos && head.find("'<f4'") != head.npos && head.find("'fortran_order': False") != head.npos, wrong + "its head is not that of float32 numbers");
    Tensor tensor;
    size_t count = 1, axis;
    for (std::istringstream words(head.substr(open + 10)); words >> axis; words.ignore(), count *= axis) {
        require(axis > 0 && axis <= data.size() && count <= data.size(), wrong + "its shape is larger than the file");
        tensor.shape.push_back(axis);
    }
    require(data.size() == start + count * sizeof(float), wrong + "it was cut off, or has too much");
    tensor.values.resize(count);
    std::memcpy(tensor.values.data(), data.data() + start, count * sizeof(float));
    require(std::all_of(tensor.values.begin(), tensor.values.end(), [](float v) { return std::isfinite(v); }), wrong + "it has NaN or infinite numbers");
    return tensor;
}

struct Bundle {
    std::string folder;
    nlohmann::json contract, results;
    std::vector<std::string> labels;
    Tensor input, output;

    explicit Bundle(const std::string& path) : folder(path + "/") {
        contract = nlohmann::json::parse(bytes_of(folder + "contract.json"));
        require(contract.at("task") == "detect", "this example decodes boxes; for the task " + contract.at("task").dump() + " port examples/decode");
        results = nlohmann::json::parse(bytes_of(folder + contract.at("golden").get<std::string>()));
        std::istringstream lines(bytes_of(folder + "labels.txt"));
        for (std::string line; std::getline(lines, line);) labels.push_back(line);
        require(labels.size() == contract.at("classes"), "labels.txt does not have a line for each class");
        input = read_npy(folder + "golden/input.npy");
        output = read_npy(folder + "golden/output.npy");
        const auto& size = contract.at("input_size");
        require(input.shape == std::vector<size_t>{1, contract["colour_order"] == "GREY" ? 1u : 3u, size.at(0), size.at(1)}, "golden/input.npy does not have the contract's shape");
        const bool fits = output.shape.size() == 2 && (layout() == "rows" ? output.shape[1] >= 6 : output.shape[0] >= 4 + labels.size());
        require(fits && output.shape == shape_of_output(), "golden/output.npy does not have the contract's shape");
    }

    std::string entry(const std::string& suffix) const {
        const std::string name = contract.at("entry");
        require(name.find(suffix) != name.npos, "this bundle is for another runtime: its artifact is " + name + ", not *" + suffix);
        return folder + name;
    }
    double scale(int axis) const {
        const auto& scale = results.at("letterbox").at("scale");
        return scale.is_array() ? scale.at(axis) : scale;
    }
    // README.md says why. `half`: the runtime computes in fp16; a golden output was computed in fp32, for a GPU in fp16.
    Tolerance allowed(bool half) const {
        const auto& layers = contract.at("layers");
        const bool coarse = half || contract.contains("gpu") || std::find(layers.begin(), layers.end(), "int8") != layers.end();
        return coarse ? Tolerance{1.0, 0.1, false} : Tolerance{0.02, 1e-3};
    }
    std::string layout() const { return contract.at("postprocess").at("layout"); }
    std::vector<size_t> shape_of_output() const {  // without the axis of the batch
        const std::vector<size_t> shape = contract.at("outputs").at(0).at("shape");
        return shape.size() == 3 ? std::vector<size_t>(shape.begin() + 1, shape.end()) : shape;
    }
};

inline double iou(const std::array<double, 4>& a, const std::array<double, 4>& b) {
    const double wide = std::min(a[2], b[2]) - std::max(a[0], b[0]), high = std::min(a[3], b[3]) - std::max(a[1], b[1]);
    const double shared = std::max(wide, 0.0) * std::max(high, 0.0);
    const double all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared;
    return all > 0 ? shared / all : 0;
}

inline void best_first(std::vector<Found>& found, size_t most) {
    std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.score > b.score; });
    found.resize(std::min(found.size(), most), {});
}

// What `postprocess.rule` of the contract keeps, in pixels of the input.
inline std::vector<Found> choose(const Bundle& bundle, const std::vector<float>& output) {
    const auto &rules = bundle.contract.at("thresholds"), &after = bundle.contract.at("postprocess");
    const double least = rules.at("confidence");
    const std::string nms = after.at("nms");
    std::vector<Found> all, kept;
    if (bundle.layout() == "rows" && nms == "none") {
        for (const float* row = output.data(); row < output.data() + output.size(); row += bundle.output.shape[1])
            if (row[4] > least) kept.push_back({row[5] >= 0 && row[5] < float(bundle.labels.size()) ? int(row[5]) : -1, row[4], {row[0], row[1], row[2], row[3]}});
    } else {
        require(bundle.layout() == "anchors" && (nms == "app" || nms == "none"), "this example cannot decode the layout " + bundle.layout() + " with nms " + nms);
        const size_t anchors = bundle.output.shape[1], classes = bundle.labels.size();
        const auto at = [&](size_t row, size_t anchor) { return output[row * anchors + anchor]; };
        for (size_t a = 0; a < anchors; a++) {
            size_t best = 4;
            for (size_t c = 5; c < 4 + classes; c++) if (at(c, a) > at(best, a)) best = c;
            const double x = at(0, a), y = at(1, a), w = at(2, a) / 2.0, h = at(3, a) / 2.0;
            if (at(best, a) > least) all.push_back({int(nms == "app" ? best - 4 : a), at(best, a), {x - w, y - h, x + w, y + h}});
        }
        const size_t most = nms == "app" ? anchors : after.at("best").get<size_t>();
        best_first(all, most);
        for (const Found& one : all) {
            const auto rival = [&](const Found& k) { return k.label == one.label && iou(k.box, one.box) > rules.at("iou"); };
            if (nms == "app" && std::none_of(kept.begin(), kept.end(), rival)) kept.push_back(one);
            for (size_t c = 0; nms == "none" && c < classes; c++)  // an anchor can give several objects
                if (at(4 + c, one.label) > least) kept.push_back({int(c), at(4 + c, one.label), one.box});
        }
        best_first(kept, most);
    }
    kept.resize(std::min(kept.size(), rules.at("limit").get<size_t>()), {});
    return kept;
}

// The largest differences seen; NaN is larger than everything.
struct Difference { double pixels = 0, score = 0; std::string fault; };
inline void widen(double& most, double by) { most = std::max(most, std::isnan(by) ? INFINITY : std::abs(by)); }

// Pairs each golden detection with the nearest of its class. One whose score is about the threshold may come or go.
inline Difference compare(const Bundle& bundle, std::vector<Found> found, const Tolerance& allowed) {
    Difference difference;
    const auto& box = bundle.results.at("letterbox");
    const double offsets[2] = {box.at("left"), box.at("top")}, sides[2] = {box.at("width"), box.at("height")};
    for (Found& one : found)
        for (int i = 0; i < 4; i++) one.box[i] = std::clamp((one.box[i] - offsets[i % 2]) / bundle.scale(i % 2), 0.0, sides[i % 2]);
    const double sure = bundle.contract["thresholds"]["confidence"].get<double>() + allowed.score;
    for (const auto& golden : bundle.results.at("detections")) {
        const std::array<double, 4> wanted = golden.at("box");
        const auto distance = [&](const Found& one) {
            double most = one.label == golden.at("class") ? 0 : INFINITY;
            for (int i = 0; i < 4; i++) widen(most, one.box[i] - wanted[i]);
            return most;
        };
        const auto nearest = std::min_element(found.begin(), found.end(), [&](const Found& a, const Found& b) { return distance(a) < distance(b); });
        if (nearest != found.end() && distance(*nearest) <= allowed.pixels) {
            widen(difference.pixels, distance(*nearest));
            widen(difference.score, nearest->score - golden.at("score").get<double>());
            found.erase(nearest);
        } else if (golden.at("score") > sure) difference.fault = "a golden " + bundle.labels.at(golden.at("class")) + " was not found there";
    }
    for (const Found& one : found)
        if (!(one.score <= sure)) difference.fault = "a " + bundle.labels.at(one.label) + " was found that is not golden";
    return difference;
}

inline bool report(const char* vector, const Difference& found, const Tolerance& allowed) {
    const bool right = found.fault.empty() && found.pixels <= allowed.pixels && found.score <= allowed.score;
    std::printf("%-10s %s  %.6f px (allowed %g), score %.7f (allowed %g) %s\n", vector, right ? "ok    " : "FAILED", found.pixels, allowed.pixels, found.score, allowed.score, found.fault.c_str());
    return right;
}

// Compares what a runtime returned with the golden vectors, prints a line for each; returns the exit code.
inline int verdict(const Bundle& bundle, const Tensor& output, const Tolerance& allowed) {
    const Tolerance rounding{1.01e-3, 1.01e-6};  // golden detections have 3 decimals of a pixel, 6 of a score
    bool right = report("decoding", compare(bundle, choose(bundle, bundle.output.values), rounding), rounding);
    require(output.shape == bundle.output.shape, "the artifact's output does not have the contract's shape");
    Difference raw;
    const size_t row = output.shape[1];
    for (size_t i = 0; i < output.values.size(); i++) {
        const bool rows = bundle.layout() == "rows", box = rows ? i % row < 4 : i / row < 4;
        const bool empty = rows && !(bundle.output.values[i - i % row + 4] > bundle.contract["thresholds"]["confidence"]);  // in any order
        const double by = double(output.values[i]) - bundle.output.values[i];
        widen(box ? raw.pixels : raw.score, std::isfinite(by) && (empty || !allowed.numbers) ? 0 : by);
    }
    right &= report(allowed.numbers ? "output" : "finite", raw, allowed);
    if (!(raw.pixels < INFINITY && raw.score < INFINITY)) return 1;
    const Tolerance shown{allowed.pixels / std::min(bundle.scale(0), bundle.scale(1)), allowed.score};  // in pixels of the image
    return (report("detections", compare(bundle, choose(bundle, output.values), shown), shown) && right) ? 0 : 1;
}

}  // namespace golden

// The job file: lines of a key and its values; README.md beside this file describes them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Model {
    std::string param, bin, input;
    std::vector<std::string> outputs;
};

struct Job {
    std::string id, mode, images, form, results;
    std::vector<Model> models;
    std::vector<int> cores;
    int channels = 0, height = 0, width = 0, count = 0, threads = 1, warm_up = 3;
    int first_round = 0, rounds = 0, burst_runs = 2;
    double settle_ms = 15, burst_ms = 60;

    size_t pixels() const { return size_t(channels) * height * width; }
};

namespace parsing {

template <typename Number>
Number number(std::istream& words, const std::string& key, Number least, Number most) {
    Number value;
    if (!(words >> value) || value < least || value > most)
        throw std::runtime_error("job: `" + key + "` must have numbers from " + std::to_string(least) + " to " + std::to_string(most));
    return value;
}

inline std::string word(std::istream& words, const std::string& key) {
    std::string value;
    if (!(words >> value)) throw std::runtime_error("job: `" + key + "` lacks a value");
    return value;
}

// A file of the job's folder, so that nothing else is ever read or written.
inline std::string file(std::istream& words, const std::string& key) {
    const std::string name = word(words, key);
    if (name.find('/') != std::string::npos || name[0] == '.')
        throw std::runtime_error("job: `" + key + "` must name a file beside the job, not " + name);
    return name;
}

inline Model model(std::istream& words) {
    Model found;
    found.param = file(words, "model");
    found.bin = file(words, "model");
    found.input = word(words, "model");
    std::stringstream names(word(words, "model"));
    for (std::string name; std::getline(names, name, ',');) found.outputs.push_back(name);
    return found;
}

inline void line(Job& job, const std::string& key, std::istream& words) {
    if (key == "id") job.id = word(words, key);
    else if (key == "mode") job.mode = word(words, key);
    else if (key == "model") job.models.push_back(model(words));
    else if (key == "results") job.results = file(words, key);
    else if (key == "threads") job.threads = number(words, key, 1, 256);
    else if (key == "warm_up") job.warm_up = number(words, key, 0, 1000);
    else if (key == "cores") {
        do job.cores.push_back(number(words, key, 0, 1023));
        while (!(words >> std::ws).eof());
    } else if (key == "shape") {
        job.channels = number(words, key, 1, 1024);
        job.height = number(words, key, 1, 16384);
        job.width = number(words, key, 1, 16384);
    } else if (key == "images") {
        job.images = file(words, key);
        job.form = word(words, key);
        job.count = number(words, key, 1, 1000000);
    } else if (key == "rounds") {
        job.first_round = number(words, key, 0, 1000000);
        job.rounds = number(words, key, 1, 100000);
    } else if (key == "burst") {
        job.settle_ms = number(words, key, 0.0, 60000.0);
        job.burst_ms = number(words, key, 0.0, 60000.0);
        job.burst_runs = number(words, key, 1, 100000);
    } else throw std::runtime_error("job: unknown key `" + key + "`; is it for a newer runner?");
}

inline void require(bool right, const char* message) {
    if (!right) throw std::runtime_error(std::string("job: ") + message);
}

}  // namespace parsing

// Reads and checks a job; throws std::runtime_error with what is wrong.
inline Job read_job(const std::string& path) {
    using parsing::require;
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot open the job " + path);
    Job job;
    std::string text;
    require(std::getline(file, text) && text == "yolodeploy-runner-job 1", "the first line must be `yolodeploy-runner-job 1`");
    bool ended = false;
    while (std::getline(file, text)) {
        require(!ended, "nothing may follow the line `end`");
        std::istringstream words(text);
        const std::string key = parsing::word(words, "a line");
        if (key == "end") ended = true;
        else parsing::line(job, key, words);
        std::string rest;
        require(!(words >> rest), ("`" + key + "` has too many values").c_str());
    }
    require(ended, "the line `end` is missing: the file was cut off");
    require(job.id.size() == 32, "`id` must have 32 characters");
    require(!job.results.empty(), "`results` is missing");
    require(job.mode == "predict" || job.mode == "time", "`mode` must be predict or time");
    require(!job.models.empty() && (job.mode == "time" || job.models.size() == 1), "`model` must be there, once to predict");
    require(job.mode == "predict" || job.rounds > 0, "`rounds` is missing");
    require(job.pixels() > 0 && job.count > 0, "`shape` and `images` are needed");
    require(job.form == "u8-chw" || job.form == "u8-hwc" || job.form == "f32-chw", "images must be u8-chw, u8-hwc or f32-chw");
    return job;
}

// The images of a job, one after the other, as planes in 0..1.
class Images {
public:
    Images(const Job& job, const std::string& path)
        : job_(job), file_(std::fopen(path.c_str(), "rb"), std::fclose) {
        if (!file_) throw std::runtime_error("cannot open " + path);
        const long wanted = long(job.pixels() * size() * job.count);
        std::fseek(file_.get(), 0, SEEK_END);
        if (std::ftell(file_.get()) != wanted)
            throw std::runtime_error(path + " must have " + std::to_string(wanted) + " bytes for the images of the job");
        std::rewind(file_.get());
        tensor_.resize(job.pixels());
    }

    const float* next() {
        if (job_.form == "f32-chw") {
            read(tensor_.data());
            return tensor_.data();
        }
        raw_.resize(job_.pixels());
        read(raw_.data());
        const size_t plane = size_t(job_.height) * job_.width, channels = job_.channels;
        const bool interleaved = job_.form == "u8-hwc";
        for (size_t c = 0; c < channels; c++)
            for (size_t i = 0; i < plane; i++)  // a division in float32, as numpy's: not a product with 1 / 255
                tensor_[c * plane + i] = float(raw_[interleaved ? i * channels + c : c * plane + i]) / 255.0f;
        return tensor_.data();
    }

private:
    size_t size() const { return job_.form == "f32-chw" ? sizeof(float) : 1; }

    void read(void* to) {
        if (std::fread(to, size(), job_.pixels(), file_.get()) != job_.pixels()) throw std::runtime_error("cannot read the images");
    }

    const Job& job_;
    std::unique_ptr<FILE, int (*)(FILE*)> file_;
    std::vector<float> tensor_;
    std::vector<uint8_t> raw_;
};

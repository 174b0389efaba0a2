// Predicts images or times networks where there is no Python: `ncnn-runner JOB` reads a job file, writes a results file.
//
// Exit codes: 0 done; 1 the job failed, and the results file says why; 2 there is no results file.

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "conditions.hpp"
#include "job.hpp"
#include "network.hpp"
#include "results.hpp"
#include "run_delay.hpp"

namespace {

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

std::unique_ptr<Network> load(const Job& job, const Model& model, const std::string& folder) {
    return std::make_unique<Network>(folder + model.param, folder + model.bin, model.input, model.outputs, job.threads);
}

std::vector<Array> run(const Network& network, const Job& job, const float* image) {
    return network.run(image, job.channels, job.height, job.width);
}

void predict(const Job& job, const std::string& folder, Results& results) {
    const auto network = load(job, job.models[0], folder);
    Images images(job, folder + job.images);
    for (int image = 0; image < job.count; image++) {
        const std::vector<Array> found = run(*network, job, images.next());
        for (size_t number = 0; number < found.size(); number++) results.output(uint32_t(image), uint32_t(number), found[number]);
        std::fprintf(stderr, "image %d/%d\n", image + 1, job.count);
    }
}

// Which model comes when: the order shifts by one place every round, and reverses every `count` rounds.
std::vector<int> order(int round, int count) {
    std::vector<int> places;
    for (int place = 0; place < count; place++) places.push_back((round + place) % count);
    if (round / count % 2) std::reverse(places.begin(), places.end());
    return places;
}

// A burst: runs that wake caches and threads, then those that count: pairs of ms that passed, and of them waited.
std::string burst(const Network& network, const Job& job, const float* image, RunDelay& delay) {
    const double settled = now_ms() + job.settle_ms;
    do run(network, job, image);
    while (now_ms() < settled);
    delay.notice_threads();
    std::string runs;
    const double end = now_ms() + job.burst_ms;
    for (int number = 0; number < job.burst_runs || now_ms() < end; number++) {
        const double waited = delay.ms(), start = now_ms();
        run(network, job, image);
        const double passed = now_ms() - start;
        char text[64];
        std::snprintf(text, sizeof text, " %.4f:%.4f", passed, std::max(delay.ms() - waited, 0.0));
        runs += text;
    }
    return runs;
}

void time(const Job& job, const std::string& folder, Results& results) {
    const std::vector<float> image = [&] {
        Images images(job, folder + job.images);
        const float* first = images.next();
        return std::vector<float>(first, first + job.pixels());
    }();
    std::vector<std::unique_ptr<Network>> networks;
    for (const Model& model : job.models) {
        networks.push_back(load(job, model, folder));
        for (int number = 0; number < job.warm_up; number++) run(*networks.back(), job, image.data());
        if (networks.size() > 1) continue;
        std::string alone;
        conditions::line(alone, "peak_memory", conditions::memory());
        results.text("META", alone);
    }
    RunDelay delay;
    std::string text = std::string("delay ") + (delay.counted() ? "counted" : "unknown") + "\n";
    for (int round = job.first_round; round < job.first_round + job.rounds; round++) {
        for (const int which : order(round, int(networks.size())))
            text += "burst " + std::to_string(round) + " " + std::to_string(which) + burst(*networks[which], job, image.data(), delay) + "\n";
        std::fprintf(stderr, "round %d/%d\n", round + 1 - job.first_round, job.rounds);
    }
    results.text("TIME", text);
}

int work(const Job& job, const std::string& folder) {
    Results results(folder + job.results, job.id);
    int code = 0;
    try {
        conditions::pin(job.cores);
        results.text("META", conditions::machine() + conditions::state("before"));
        (job.mode == "time" ? time : predict)(job, folder, results);
        results.text("META", conditions::state("after"));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ncnn-runner: %s\n", error.what());
        results.text("FAIL", error.what());
        code = 1;
    }
    results.finish();
    return code;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: ncnn-runner JOB\n(ncnn %s)\n", NCNN_VERSION_STRING);
        return 2;
    }
    try {
        const std::string path = arguments[1];
        return work(read_job(path), path.substr(0, path.rfind('/') + 1));  // npos + 1 is 0: no folder
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ncnn-runner: %s\n", error.what());
        return 2;
    }
}

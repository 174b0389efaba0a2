// For how long the threads of this process were ready to run but had no processor, as yolodeploy/measure/run_delay.py.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include "conditions.hpp"

class RunDelay {
public:
    RunDelay() { notice_threads(); }
    RunDelay(const RunDelay&) = delete;
    ~RunDelay() {
        for (const auto& [thread, file] : files_) close(file);
    }

    bool counted() const { return !files_.empty(); }

    void notice_threads() {
        const std::string tasks = "/proc/self/task";
        for (const std::string& thread : conditions::entries(tasks, "")) {
            if (thread[0] == '.' || files_.count(thread)) continue;
            const int file = open((tasks + "/" + thread + "/schedstat").c_str(), O_RDONLY | O_CLOEXEC);
            if (file >= 0) files_[thread] = file;
        }
    }

    double ms() const {
        uint64_t total = 0;
        for (const auto& [thread, file] : files_) {
            char text[128] = {};
            unsigned long long ran = 0, waited = 0;
            if (pread(file, text, sizeof text - 1, 0) > 0 && std::sscanf(text, "%llu %llu", &ran, &waited) == 2) total += waited;
        }
        return double(total) / 1e6;
    }

private:
    std::map<std::string, int> files_;
};

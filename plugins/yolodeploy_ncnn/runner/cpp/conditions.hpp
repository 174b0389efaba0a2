// What a machine says about itself: its processor, clocks, temperatures, memory. What cannot be read is left out.
#pragma once

#include <dirent.h>
#include <sched.h>
#include <sys/utsname.h>

#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <cpu.h>
#include <platform.h>

namespace conditions {

inline std::vector<std::string> entries(const std::string& folder, const std::string& prefix) {
    std::set<std::string> found;
    if (DIR* open = opendir(folder.c_str())) {
        while (const dirent* entry = readdir(open))
            if (std::string(entry->d_name).rfind(prefix, 0) == 0) found.insert(entry->d_name);
        closedir(open);
    }
    return {found.begin(), found.end()};
}

inline std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Lines `KEY VALUE`, for the record META.
inline void line(std::string& text, const std::string& key, const std::string& value) {
    if (!value.empty()) text += key + " " + value.substr(0, 2000) + "\n";
}

// The value of a line `Name: value` of a file of /proc, each different one once.
inline std::string field(const std::string& path, const std::string& name) {
    std::ifstream file(path);
    std::set<std::string> seen;
    std::string found;
    for (std::string text; std::getline(file, text);) {
        const size_t colon = text.find(':');
        if (colon == std::string::npos || text.substr(0, text.find_last_not_of(" \t", colon - 1) + 1) != name) continue;
        const size_t start = text.find_first_not_of(" \t", colon + 1);
        const std::string value = start == std::string::npos ? "" : text.substr(start);
        if (seen.insert(value).second) found += (found.empty() ? "" : ", ") + value;
    }
    return found;
}

// The kernels of ncnn that this processor gets, by the names of /proc/cpuinfo.
inline std::string kernels() {
    const std::map<std::string, int> all = {
        {"neon", ncnn::cpu_support_arm_neon()},      {"asimdhp", ncnn::cpu_support_arm_asimdhp()},
        {"asimddp", ncnn::cpu_support_arm_asimddp()}, {"asimdfhm", ncnn::cpu_support_arm_asimdfhm()},
        {"bf16", ncnn::cpu_support_arm_bf16()},       {"i8mm", ncnn::cpu_support_arm_i8mm()},
        {"sve", ncnn::cpu_support_arm_sve()},         {"sve2", ncnn::cpu_support_arm_sve2()},
        {"avx2", ncnn::cpu_support_x86_avx2()},       {"avx512", ncnn::cpu_support_x86_avx512()},
        {"avx512_vnni", ncnn::cpu_support_x86_avx512_vnni()}};
    std::string found;
    for (const auto& [name, there] : all)
        if (there) found += (found.empty() ? "" : " ") + name;
    return found;
}

inline std::string affinity() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return "";
    std::string found;
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &set)) found += (found.empty() ? "" : " ") + std::to_string(core);
    return found;
}

// Throws if the machine does not have the cores, or refuses.
inline void pin(const std::vector<int>& cores) {
    if (cores.empty()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int core : cores) CPU_SET(core, &set);
    std::string wanted;
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &set)) wanted += (wanted.empty() ? "" : " ") + std::to_string(core);
    if (sched_setaffinity(0, sizeof set, &set) != 0 || affinity() != wanted)
        throw std::runtime_error("cannot run on the cores " + wanted + ": this process may use " + affinity());
}

inline std::string machine() {
    std::string text;
    utsname system{};
    uname(&system);
    line(text, "ncnn", NCNN_VERSION_STRING);
    line(text, "machine", system.machine);
    line(text, "kernel", std::string(system.sysname) + " " + system.release);
    const std::pair<const char*, const char*> fields[] = {
        {"cpu", "model name"},    {"hardware", "Hardware"},   {"implementer", "CPU implementer"},
        {"part", "CPU part"},     {"features", "Features"},   {"flags", "flags"}};
    for (const auto& [key, name] : fields) line(text, key, field("/proc/cpuinfo", name));
    line(text, "kernels", kernels());
    line(text, "cores", affinity());
    return text;
}

// Clocks in kHz and temperatures in thousandths of a degree, as the kernel gives them.
inline std::string state(const std::string& when) {
    std::string text;
    const std::string cpus = "/sys/devices/system/cpu/", zones = "/sys/class/thermal/";
    for (const std::string& cpu : entries(cpus, "cpu"))
        line(text, when + ".khz." + cpu, first_line(cpus + cpu + "/cpufreq/scaling_cur_freq"));
    for (const std::string& zone : entries(zones, "thermal_zone")) {
        const std::string degrees = first_line(zones + zone + "/temp");
        if (!degrees.empty()) line(text, when + ".millidegrees." + zone, degrees + " " + first_line(zones + zone + "/type"));
    }
    return text;
}

inline std::string memory() { return field("/proc/self/status", "VmHWM"); }

}  // namespace conditions

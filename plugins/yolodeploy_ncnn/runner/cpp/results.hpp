// The results file: framed, so that one that is cut off, or of another job, is noticed; README.md describes it.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "network.hpp"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are written as they lie in memory");

class Results {
public:
    // Writes beside `path`; only `finish` puts the file there.
    Results(std::string path, const std::string& id)
        : path_(std::move(path)), file_(std::fopen((path_ + ".part").c_str(), "wb"), std::fclose) {
        if (!file_) throw std::runtime_error("cannot write " + path_ + ".part");
        const uint32_t version = 1;
        put("YDRESULT", 8);
        put(&version, sizeof version);
        put(id.data(), id.size());
    }

    void text(const char* tag, const std::string& content) {
        head(tag, content.size());
        put(content.data(), content.size());
    }

    void output(uint32_t image, uint32_t number, const Array& array) {
        const uint32_t axes = uint32_t(array.shape.size()), bytes = uint32_t(array.values.size() * sizeof(float));
        head("OUTP", (3 + axes) * sizeof(uint32_t) + bytes);
        for (const uint32_t value : {image, number, axes}) put(&value, sizeof value);
        for (const size_t length : array.shape) {
            const uint32_t value = uint32_t(length);
            put(&value, sizeof value);
        }
        put(array.values.data(), bytes);
    }

    void finish() {
        const uint32_t count = records_, sum = ~crc_;  // of all before this record
        head("END!", 2 * sizeof(uint32_t));
        put(&count, sizeof count);
        put(&sum, sizeof sum);
        if (std::fclose(file_.release()) != 0 || std::rename((path_ + ".part").c_str(), path_.c_str()) != 0)
            throw std::runtime_error("cannot write " + path_ + "; is the disk full?");
    }

private:
    void head(const char* tag, size_t length) {
        const uint64_t bytes = length;
        put(tag, 4);
        put(&bytes, sizeof bytes);
        records_++;
    }

    void put(const void* data, size_t length) {
        if (std::fwrite(data, 1, length, file_.get()) != length)
            throw std::runtime_error("cannot write " + path_ + ".part; is the disk full?");
        static const std::array<uint32_t, 256> table = crc_table();
        const auto* bytes = static_cast<const uint8_t*>(data);
        for (size_t i = 0; i < length; i++) crc_ = table[(crc_ ^ bytes[i]) & 0xFF] ^ (crc_ >> 8);
    }

    static std::array<uint32_t, 256> crc_table() {  // CRC-32 as of zlib and PNG (ISO/IEC 15948, annex D)
        std::array<uint32_t, 256> table{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
            table[i] = value;
        }
        return table;
    }

    std::string path_;
    std::unique_ptr<FILE, int (*)(FILE*)> file_;
    uint32_t crc_ = 0xFFFFFFFFu, records_ = 0;
};

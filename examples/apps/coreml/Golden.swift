// Proves a bundle with Core ML: runs the golden image, decodes, compares with the golden vectors.
//
//     swiftc -O -parse-as-library Golden.swift -o golden && ./golden BUNDLE [all|cpu|gpu|ane]
//
// Needs macOS 13. It was written from Apple's documentation and never run on a Mac: see README.md.
import CoreML
import Foundation
import Vision

struct Failure: Error, CustomStringConvertible { let description: String }

func require(_ right: Bool, _ message: @autoclosure () -> String) throws { if !right { throw Failure(description: message()) } }

struct Thresholds: Decodable { let confidence: Float, iou: Double?, limit: Int }
struct Postprocess: Decodable { let layout: String, nms: String, best: Int? }
struct Port: Decodable { let name: String, shape: [Int] }
struct Contract: Decodable {
    let task: String, entry: String, classes: Int, golden: String, input_size: [Int], colour_order: String
    let inputs: [Port], outputs: [Port], thresholds: Thresholds, postprocess: Postprocess
}
struct Detection: Decodable { let `class`: Int, score: Double, box: [Double] }
enum Scale: Decodable {  // one number, or that of x and that of y
    case one(Double), two([Double])
    init(from decoder: Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let number = try? value.decode(Double.self) { self = .one(number) } else { self = .two(try value.decode([Double].self)) }
    }
    subscript(axis: Int) -> Double { switch self { case .one(let s): return s; case .two(let s): return s[axis] } }
}
struct Letterbox: Decodable { let scale: Scale, left: Double, top: Double, width: Double, height: Double }
struct Vectors: Decodable { let letterbox: Letterbox, detections: [Detection] }

struct Tensor { let shape: [Int], values: [Float] }  // row by row

extension Tensor {
    init(npy file: URL) throws {  // version 1 of numpy.lib.format, little-endian
        let data = [UInt8](try Data(contentsOf: file)), name = file.lastPathComponent
        try require(data.count > 10 && Array(data[0..<7]) == [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1], "\(name): no .npy file of version 1")
        let start = 10 + Int(data[8]) + 256 * Int(data[9])
        try require(data.count >= start, "\(name): cut off")
        let head = String(decoding: data[10..<start], as: UTF8.self)
        guard head.contains("'<f4'"), head.contains("'fortran_order': False"), let open = head.firstIndex(of: "("), let close = head.firstIndex(of: ")"), open < close
        else { throw Failure(description: "\(name): its head is not that of float32 numbers") }
        let shape = head[head.index(after: open)..<close].split(separator: ",").compactMap { Int($0.trimmingCharacters(in: .whitespaces)) }
        try require(shape.count <= 4 && shape.allSatisfy { 0 < $0 && $0 <= 16384 }, "\(name): has the shape \(shape)")
        try require(data.count == start + 4 * shape.reduce(1) { $0 &* $1 }, "\(name): cut off, or too long")
        let values: [Float] = data.withUnsafeBytes { bytes in
            stride(from: start, to: bytes.count, by: 4).map { Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self))) }
        }
        try require(values.allSatisfy { $0.isFinite }, "\(name): has NaN or infinite numbers")
        self.init(shape: shape, values: values)
    }
}

// The golden input as the image that the artifact takes: [1, channels, H, W] in 0..1 back to 8 bits.
func pixelBuffer(_ input: Tensor) throws -> CVPixelBuffer {
    let (channels, height, width) = (input.shape[1], input.shape[2], input.shape[3])
    let format = channels == 1 ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
    var made: CVPixelBuffer?
    let code = CVPixelBufferCreate(kCFAllocatorDefault, width, height, format, nil, &made)
    guard code == kCVReturnSuccess, let buffer = made else { throw Failure(description: "no pixel buffer: code \(code)") }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let bytes = CVPixelBufferGetBaseAddress(buffer)!.assumingMemoryBound(to: UInt8.self), row = CVPixelBufferGetBytesPerRow(buffer)
    for y in 0..<height {
        for x in 0..<width {
            let place = y * row + x * (channels == 1 ? 1 : 4)
            for c in 0..<channels {  // RGB becomes BGRA
                let value = input.values[(c * height + y) * width + x]
                try require(value >= 0 && value <= 1, "golden/input.npy has a number outside of 0..1")
                bytes[place + (channels == 1 ? 0 : 2 - c)] = UInt8((value * 255).rounded())
            }
            if channels > 1 { bytes[place + 3] = 255 }
        }
    }
    return buffer
}

struct Found { var label: Int, score: Float, box: [Double] }  // left, top, right, bottom

func iou(_ a: [Double], _ b: [Double]) -> Double {
    let shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    let all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return all > 0 ? shared / all : 0
}

func bestFirst(_ found: [Found]) -> [Found] {  // of equals the first one first
    found.enumerated().sorted { ($0.element.score, $1.offset) > ($1.element.score, $0.offset) }.map { $0.element }
}

// What `postprocess.rule` keeps of a raw output, in pixels of the input. Golden outputs are always raw.
func choose(_ output: Tensor, _ contract: Contract) throws -> [Found] {
    let rules = contract.thresholds, after = contract.postprocess, columns = output.shape[1]
    func at(_ row: Int, _ column: Int) -> Float { output.values[row * columns + column] }
    var kept: [Found] = []
    if after.layout == "rows" {
        kept = (0..<output.shape[0]).filter { at($0, 4) > rules.confidence }
            .map { row in Found(label: Int(at(row, 5)), score: at(row, 4), box: (0..<4).map { Double(at(row, $0)) }) }
        return Array(kept.prefix(rules.limit))
    }
    var anchors: [(best: Found, column: Int)] = []
    for a in 0..<columns {
        let scores = (0..<contract.classes).map { at(4 + $0, a) }
        let best = scores.indices.reduce(0) { scores[$1] > scores[$0] ? $1 : $0 }
        guard scores[best] > rules.confidence else { continue }
        let (x, y, w, h) = (Double(at(0, a)), Double(at(1, a)), Double(at(2, a)) / 2, Double(at(3, a)) / 2)
        anchors.append((Found(label: best, score: scores[best], box: [x - w, y - h, x + w, y + h]), a))
    }
    if after.nms == "none" {  // the best pairs of an anchor and a class
        let best = after.best ?? columns
        let order = anchors.enumerated().sorted { ($0.element.best.score, $1.offset) > ($1.element.best.score, $0.offset) }.prefix(best)
        let pairs = order.flatMap { one in (0..<contract.classes).map { Found(label: $0, score: at(4 + $0, one.element.column), box: one.element.best.box) } }
        kept = Array(bestFirst(pairs.filter { $0.score > rules.confidence }).prefix(best))
    } else {
        for one in bestFirst(anchors.map { $0.best }) where !kept.contains(where: { $0.label == one.label && iou($0.box, one.box) > rules.iou ?? 1 }) { kept.append(one) }
    }
    return Array(kept.prefix(rules.limit))
}

// Compares with the golden detections, prints a line; one whose score is about the threshold may come or go.
func compare(_ vector: String, _ found: [Found], _ golden: Vectors, _ contract: Contract, pixels: Double, score: Double) -> Bool {
    let box = golden.letterbox, sure = Double(contract.thresholds.confidence) + score
    let sides = [box.width, box.height], offsets = [box.left, box.top]
    func placed(_ value: Double, _ axis: Int) -> Double { min(max((value - offsets[axis]) / box.scale[axis], 0), sides[axis]) }  // in the image
    var left = found.map { one in Found(label: one.label, score: one.score, box: (0..<4).map { placed(one.box[$0], $0 % 2) }) }
    var (mostPixels, mostScore, faults) = (0.0, 0.0, [String]())
    func distance(_ one: Found, _ wanted: Detection) -> Double { (0..<4).map { abs(one.box[$0] - wanted.box[$0]) }.max()! }
    for wanted in golden.detections {
        let same = left.indices.filter { left[$0].label == wanted.class && distance(left[$0], wanted) <= pixels }
        guard let nearest = same.min(by: { distance(left[$0], wanted) < distance(left[$1], wanted) }) else {
            if wanted.score > sure { faults.append("class \(wanted.class) at \(wanted.box) was not found") }
            continue
        }
        let one = left.remove(at: nearest)
        (mostPixels, mostScore) = (max(mostPixels, distance(one, wanted)), max(mostScore, abs(Double(one.score) - wanted.score)))
    }
    faults += left.filter { !(Double($0.score) <= sure) }.map { "class \($0.label) at \($0.box) is not golden" }
    let right = faults.isEmpty && mostScore <= score
    print(vector, right ? "ok" : "FAILED", "\(mostPixels) px (allowed \(pixels)), score \(mostScore) (allowed \(score))", faults.joined(separator: "; "))
    return right
}

func tensor(_ array: MLMultiArray, _ wanted: [Int]) throws -> Tensor {  // by index, so that strides and types do not matter
    let shape = array.shape.map { $0.intValue }
    try require(shape == [1] + wanted, "the artifact returns \(shape), by the golden output [1] + \(wanted)")
    return Tensor(shape: wanted, values: (0..<wanted[0]).flatMap { row in
        (0..<wanted[1]).map { column in array[[0, row, column].map { NSNumber(value: $0) }].floatValue }
    })
}

// What Vision returns of an artifact that suppresses overlaps itself; its boxes are in 0..1, from below.
func objects(_ model: MLModel, _ image: CVPixelBuffer, _ labels: [String]) throws -> [Found] {
    let request = VNCoreMLRequest(model: try VNCoreMLModel(for: model))
    request.imageCropAndScaleOption = .scaleFill
    try VNImageRequestHandler(cvPixelBuffer: image, options: [:]).perform([request])
    let (width, height) = (Double(CVPixelBufferGetWidth(image)), Double(CVPixelBufferGetHeight(image)))
    return try (request.results ?? []).map { result in
        guard let object = result as? VNRecognizedObjectObservation, let best = object.labels.first, let label = labels.firstIndex(of: best.identifier)
        else { throw Failure(description: "Vision returns something else than objects with the labels of labels.txt") }
        let box = object.boundingBox
        return Found(label: label, score: best.confidence, box: [box.minX * width, (1 - box.maxY) * height, box.maxX * width, (1 - box.minY) * height])
    }
}

@main struct Program {
    static let units: [String: MLComputeUnits] = ["all": .all, "cpu": .cpuOnly, "gpu": .cpuAndGPU, "ane": .cpuAndNeuralEngine]

    static func main() async {
        do { exit(try await prove(Array(CommandLine.arguments.dropFirst())) ? 0 : 1) } catch { print("FAILED:", error) }
        exit(1)
    }

    static func prove(_ arguments: [String]) async throws -> Bool {
        guard let path = arguments.first, let unit = units[arguments.count > 1 ? arguments[1] : "all"] else { throw Failure(description: "usage: golden BUNDLE [all|cpu|gpu|ane]") }
        let bundle = URL(fileURLWithPath: path, isDirectory: true)
        let contract = try JSONDecoder().decode(Contract.self, from: Data(contentsOf: bundle.appendingPathComponent("contract.json")))
        try require(contract.task == "detect", "this example decodes boxes; for the task \(contract.task) port examples/decode")
        try require(contract.entry.hasSuffix(".mlpackage"), "this bundle is for another runtime: its artifact is \(contract.entry)")
        let golden = try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: bundle.appendingPathComponent(contract.golden)))
        try require(golden.detections.allSatisfy { $0.box.count == 4 }, "\(contract.golden): each box must have four numbers")
        let labels = try String(contentsOf: bundle.appendingPathComponent("labels.txt"), encoding: .utf8).split(separator: "\n").map(String.init)
        try require(labels.count == contract.classes, "labels.txt does not have a line for each class")
        let input = try Tensor(npy: bundle.appendingPathComponent("golden/input.npy")), output = try Tensor(npy: bundle.appendingPathComponent("golden/output.npy"))
        try require(input.shape == [1, contract.colour_order == "GREY" ? 1 : 3] + contract.input_size, "golden/input.npy does not have the contract's shape")
        try require(output.shape.count == 2 && output.shape[contract.postprocess.layout == "rows" ? 1 : 0] >= (contract.postprocess.layout == "rows" ? 6 : 4 + contract.classes), "golden/output.npy does not have the contract's shape")
        let right = compare("decoding", try choose(output, contract), golden, contract, pixels: 1.01e-3, score: 1.01e-6)

        let configuration = MLModelConfiguration()
        configuration.computeUnits = unit
        let compiled = try await MLModel.compileModel(at: bundle.appendingPathComponent(contract.entry))
        defer { try? FileManager.default.removeItem(at: compiled) }
        let model = try MLModel(contentsOf: compiled, configuration: configuration), image = try pixelBuffer(input)
        if contract.postprocess.nms == "artifact" {
            return compare("detections", try objects(model, image, labels), golden, contract, pixels: 2, score: 0.05) && right
        }
        let features = try MLDictionaryFeatureProvider(dictionary: [contract.inputs[0].name: MLFeatureValue(pixelBuffer: image)])
        guard let array = try model.prediction(from: features).featureValue(for: contract.outputs[0].name)?.multiArrayValue else { throw Failure(description: "no output \(contract.outputs[0].name)") }
        let raw = try tensor(array, output.shape)
        let finite = raw.values.allSatisfy { $0.isFinite }
        print("output", finite ? "ok" : "FAILED", "\(raw.values.count) numbers", finite ? "" : "NaN or infinite ones among them")
        return try finite && compare("detections", choose(raw, contract), golden, contract, pixels: 2, score: 0.05) && right
    }
}

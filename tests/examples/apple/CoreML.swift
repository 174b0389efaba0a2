// A stand-in for what Golden.swift uses of Apple's framework. A model is a folder with the pixels that it expects (BGRA), the
// numbers that it returns, and their shape.
@_exported import CoreVideo
import Foundation

public enum MLComputeUnits: Int { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }

open class MLModelConfiguration: NSObject { open var computeUnits: MLComputeUnits = .all }

open class MLMultiArray: NSObject {
    public let shape: [NSNumber]
    let values: [Float]

    init(_ shape: [Int], _ values: [Float]) { (self.shape, self.values) = (shape.map { NSNumber(value: $0) }, values) }

    open subscript(key: [NSNumber]) -> NSNumber { NSNumber(value: values[zip(key, shape).reduce(0) { $0 * $1.1.intValue + $1.0.intValue }]) }
}

open class MLFeatureValue: NSObject {
    let image: CVPixelBuffer?
    public let multiArrayValue: MLMultiArray?

    public init(pixelBuffer: CVPixelBuffer) { (image, multiArrayValue) = (pixelBuffer, nil) }
    init(_ array: MLMultiArray) { (image, multiArrayValue) = (nil, array) }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    let values: [String: Any]

    public init(dictionary: [String: Any]) throws { values = dictionary }
    public var featureNames: Set<String> { Set(values.keys) }
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] as? MLFeatureValue }
}

struct OtherPixels: Error {}

open class MLModel: NSObject {
    let folder: URL

    open class func compileModel(at url: URL) async throws -> URL {
        let compiled = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.copyItem(at: url, to: compiled)
        return compiled
    }

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws { folder = url }

    open func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider {
        func file(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }
        guard input.featureNames == ["in0"], let image = input.featureValue(for: "in0")?.image else { throw OtherPixels() }
        let rows = (0..<image.height).map { Data(bytes: image.bytes + $0 * image.row, count: image.width * image.channels) }
        guard try rows.reduce(Data(), +) == file("pixels") else { throw OtherPixels() }
        let values: [Float] = try file("values").withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let shape = try JSONDecoder().decode([Int].self, from: file("shape"))
        return try MLDictionaryFeatureProvider(dictionary: ["out0": MLFeatureValue(MLMultiArray(shape, values))])
    }
}

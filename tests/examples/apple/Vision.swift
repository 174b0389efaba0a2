// A stand-in for what Golden.swift uses of Apple's framework; it finds nothing.
@_exported import CoreML
import Foundation

public typealias VNConfidence = Float
public enum VNImageCropAndScaleOption: UInt { case centerCrop, scaleFit, scaleFill }
public struct VNImageOption: Hashable {}

open class VNObservation: NSObject { open var confidence: VNConfidence { 1 } }
open class VNClassificationObservation: VNObservation { open var identifier: String { "" } }
open class VNRecognizedObjectObservation: VNObservation {
    open var boundingBox: CGRect { .zero }
    open var labels: [VNClassificationObservation] { [] }
}
open class VNCoreMLModel: NSObject { public init(for model: MLModel) throws {} }
open class VNRequest: NSObject { open var results: [VNObservation]? { nil } }
open class VNCoreMLRequest: VNRequest {
    open var imageCropAndScaleOption: VNImageCropAndScaleOption = .centerCrop
    public init(model: VNCoreMLModel) {}
}
open class VNImageRequestHandler: NSObject {
    public init(cvPixelBuffer: CVPixelBuffer, options: [VNImageOption: Any]) {}
    open func perform(_ requests: [VNRequest]) throws {}
}

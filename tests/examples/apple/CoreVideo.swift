// A stand-in for what Golden.swift uses of Apple's framework, so that it compiles and runs where there is none.
import Foundation

public typealias OSType = UInt32
public typealias CVReturn = Int32
public typealias CFDictionary = NSDictionary
public typealias CVPixelBufferLockFlags = Set<Int>
public final class CFAllocator {}

public final class CVPixelBuffer {
    public let width: Int, height: Int, channels: Int, row: Int, bytes: UnsafeMutableRawPointer

    init(_ width: Int, _ height: Int, _ channels: Int) {
        (self.width, self.height, self.channels, row) = (width, height, channels, (width * channels + 63) / 64 * 64 + 64)  // padded
        bytes = .allocate(byteCount: row * height, alignment: 64)
    }

    deinit { bytes.deallocate() }
}

nonisolated(unsafe) public let kCFAllocatorDefault: CFAllocator? = nil
public let kCVPixelFormatType_OneComponent8: OSType = 0x4C30_3038, kCVPixelFormatType_32BGRA: OSType = 0x4247_5241
public let kCVReturnSuccess: CVReturn = 0

public func CVPixelBufferCreate(_: CFAllocator?, _ width: Int, _ height: Int, _ format: OSType, _: CFDictionary?, _ made: UnsafeMutablePointer<CVPixelBuffer?>) -> CVReturn {
    made.pointee = CVPixelBuffer(width, height, format == kCVPixelFormatType_32BGRA ? 4 : 1)
    return kCVReturnSuccess
}

@discardableResult public func CVPixelBufferLockBaseAddress(_: CVPixelBuffer, _: CVPixelBufferLockFlags) -> CVReturn { kCVReturnSuccess }
@discardableResult public func CVPixelBufferUnlockBaseAddress(_: CVPixelBuffer, _: CVPixelBufferLockFlags) -> CVReturn { kCVReturnSuccess }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { buffer.bytes }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.row }
public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { buffer.width }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { buffer.height }

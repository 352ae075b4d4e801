// CBOR (RFC 8949) with the typed arrays of RFC 8746, as far as the server writes it. Typed arrays become typed arrays (copied, so
// that no view keeps a whole message alive), 64-bit integers become numbers, n-dimensional arrays (tag 40) an NdArray.

export type TypedArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array;

export class NdArray {
  constructor(readonly shape: number[], readonly data: TypedArray | unknown[]) {}
}

const deepest = 200;
const stop = Symbol('end of an indefinite item');

class Reader {
  private readonly view: DataView;
  private at = 0;
  private readonly text = new TextDecoder();

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get finished(): boolean { return this.at === this.bytes.length; }

  item(depth = 0): unknown {
    const value = this.itemOrStop(depth);
    if (value === stop) throw new Error('CBOR: a break where a value must be');
    return value;
  }

  private itemOrStop(depth: number): unknown {
    if (depth > deepest) throw new Error('CBOR: nested too deeply');
    const head = this.view.getUint8(this.at++);
    const major = head >> 5, low = head & 31;
    if (major === 7) return this.simple(low);
    const count = low === 31 ? null : this.argument(low);
    switch (major) {
      case 0: return this.counted(count);
      case 1: return -1 - this.counted(count);
      case 2: return this.chunks(count, depth);
      case 3: return this.text.decode(this.chunks(count, depth));
      case 4: {
        const list: unknown[] = [];
        for (let i = 0; count === null || i < count; ++i) {
          const value = this.itemOrStop(depth + 1);
          if (value === stop) break;
          list.push(value);
        }
        return list;
      }
      case 5: {
        const map: Record<string, unknown> = {};
        for (let i = 0; count === null || i < count; ++i) {
          const key = this.itemOrStop(depth + 1);
          if (key === stop) break;
          // defineProperty: a key "__proto__" is only a key
          Object.defineProperty(map, String(key), { value: this.item(depth + 1), enumerable: true, configurable: true, writable: true });
        }
        return map;
      }
      default: return this.tagged(this.counted(count), depth);
    }
  }

  private counted(count: number | null): number {
    if (count === null) throw new Error('CBOR: an indefinite length where none may be');
    return count;
  }

  private argument(low: number): number {
    if (low < 24) return low;
    const at = this.at;
    if (low === 24) { this.at += 1; return this.view.getUint8(at); }
    if (low === 25) { this.at += 2; return this.view.getUint16(at); }
    if (low === 26) { this.at += 4; return this.view.getUint32(at); }
    if (low === 27) { this.at += 8; return Number(this.view.getBigUint64(at)); }
    throw new Error('CBOR: a reserved length');
  }

  private chunks(count: number | null, depth: number): Uint8Array {
    if (count !== null) {
      if (this.at + count > this.bytes.length) throw new Error('CBOR: the message ends too early');
      return this.bytes.subarray(this.at, (this.at += count));
    }
    const parts: Uint8Array[] = [];
    for (;;) {
      const head = this.view.getUint8(this.at++);
      if (head === 0xff) break;
      parts.push(this.chunks(this.argument(head & 31), depth + 1));
    }
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) { whole.set(part, at); at += part.length; }
    return whole;
  }

  private simple(low: number): unknown {
    const at = this.at;
    switch (low) {
      case 20: return false;
      case 21: return true;
      case 22: return null;
      case 23: return undefined;
      case 25: { this.at += 2; return half(this.view.getUint16(at)); }
      case 26: { this.at += 4; return this.view.getFloat32(at); }
      case 27: { this.at += 8; return this.view.getFloat64(at); }
      case 31: return stop;
      default: throw new Error('CBOR: an unknown simple value');
    }
  }

  private tagged(tag: number, depth: number): unknown {
    const content = this.item(depth + 1);
    if (tag >= 64 && tag <= 87 && content instanceof Uint8Array) return typed(tag, content);
    if (tag === 40 && Array.isArray(content) && content.length === 2)
      return new NdArray(Array.from(content[0] as ArrayLike<number>), content[1] as TypedArray | unknown[]);
    if ((tag === 2 || tag === 3) && content instanceof Uint8Array) {
      let value = 0;
      for (const byte of content) value = value * 256 + byte;
      return tag === 2 ? value : -1 - value;
    }
    return content;
  }
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function typed(tag: number, raw: Uint8Array): TypedArray {
  const buffer = new Uint8Array(raw).buffer; // a copy: aligned, and the message can go
  const view = new DataView(buffer);
  // Tag bits: 0b010_f_s_e_ll — float, signed, little-endian, size.
  const float = (tag & 16) !== 0, signed = (tag & 8) !== 0, little = (tag & 4) !== 0, size = tag & 3;
  if (float) {
    if (size === 0) return Float32Array.from({ length: view.byteLength >> 1 }, (_, i) => half(view.getUint16(2 * i, little)));
    if (size === 3) throw new Error('CBOR: 128-bit floats are not read');
    if (little) return size === 1 ? new Float32Array(buffer) : new Float64Array(buffer);
    return size === 1 ? Float32Array.from({ length: view.byteLength >> 2 }, (_, i) => view.getFloat32(4 * i))
      : Float64Array.from({ length: view.byteLength >> 3 }, (_, i) => view.getFloat64(8 * i));
  }
  if (size === 0) return signed ? new Int8Array(buffer) : new Uint8Array(buffer);
  if (size === 1 && little) return signed ? new Int16Array(buffer) : new Uint16Array(buffer);
  if (size === 2 && little) return signed ? new Int32Array(buffer) : new Uint32Array(buffer);
  const width = 1 << size, length = view.byteLength / width;
  const out = new Float64Array(length);
  for (let i = 0; i < length; ++i) {
    if (size === 1) out[i] = signed ? view.getInt16(2 * i, little) : view.getUint16(2 * i, little);
    else if (size === 2) out[i] = signed ? view.getInt32(4 * i, little) : view.getUint32(4 * i, little);
    else {
      const high = signed ? view.getInt32(8 * i + (little ? 4 : 0), little) : view.getUint32(8 * i + (little ? 4 : 0), little);
      out[i] = high * 4294967296 + view.getUint32(8 * i + (little ? 0 : 4), little);
    }
  }
  return out;
}

export function decodeCbor(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  let value: unknown;
  try {
    value = reader.item();
  } catch (error) {
    if (error instanceof RangeError) throw new Error('CBOR: the message ends too early');
    throw error;
  }
  if (!reader.finished) throw new Error('CBOR: something follows the value');
  return value;
}

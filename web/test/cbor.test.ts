import { expect, test } from 'vitest';
import { NdArray, decodeCbor } from '../src/api/cbor';

const hex = (text: string): Uint8Array => Uint8Array.from(text.replace(/\s/g, '').match(/../g) ?? [], (byte) => parseInt(byte, 16));

test.each([
  ['00', 0], ['1864', 100], ['1b000000e8d4a51000', 1_000_000_000_000], ['20', -1], ['3903e7', -1000], ['fb3ff199999999999a', 1.1], ['f93c00', 1],
  ['fa47c35000', 100000], ['f5', true], ['f6', null], ['6449455446', 'IETF'], ['7f657374726561646d696e67ff', 'streaming'],
  ['83010203', [1, 2, 3]], ['9f018202039f0405ffff', [1, [2, 3], [4, 5]]], ['a26161016162820203', { a: 1, b: [2, 3] }], ['bf61610161629f0203ffff', { a: 1, b: [2, 3] }],
  ['c249010000000000000000', 2 ** 64], ['c349010000000000000000', -1 - 2 ** 64],
])('RFC 8949 example %s', (bytes, value) => { expect(decodeCbor(hex(bytes))).toEqual(value); });

test('non-finite numbers stay what they are', () => {
  expect(decodeCbor(hex('fb7ff8000000000000'))).toBeNaN();
  expect(decodeCbor(hex('f9fc00'))).toBe(-Infinity);
});

test('typed arrays of RFC 8746, whatever their place in the message', () => {
  // ["x", float64 LE [1.5, -2]]: the payload does not begin at a multiple of 8
  const value = decodeCbor(hex('82 6178 d856 50 000000000000f83f 00000000000000c0')) as [string, Float64Array];
  expect(value[1]).toEqual(new Float64Array([1.5, -2]));
  expect(decodeCbor(hex('d845 44 0100ffff'))).toEqual(new Uint16Array([1, 65535]));
  expect(decodeCbor(hex('d841 44 0001ffff'))).toEqual(new Float64Array([1, 65535])); // big-endian
  expect(decodeCbor(hex('d84f 50 feffffffffffffff 0000000001000000'))).toEqual(new Float64Array([-2, 2 ** 32])); // int64 LE
});

test('an array of two dimensions keeps its shape', () => {
  const value = decodeCbor(hex('d828 82 820203 d840 46 010203040506')) as NdArray;
  expect(value.shape).toEqual([2, 3]);
  expect(value.data).toEqual(new Uint8Array([1, 2, 3, 4, 5, 6]));
});

test('what is malformed is an error, not a hang', () => {
  for (const bytes of ['', '83 01', '5f', '7f61', 'ff', '1c', '0000', 'd856 47 00000000000000', '9b7fffffffffffffff'])
    expect(() => decodeCbor(hex(bytes)), bytes).toThrow();
  expect(() => decodeCbor(new Uint8Array(100_000).fill(0x81))).toThrow(/deep/);
  expect(() => decodeCbor(hex('5a7fffffff00'))).toThrow(/early/);
});

test('a key of an object is never its prototype', () => {
  const value = decodeCbor(hex('a1 695f5f70726f746f5f5f a1 6161 01')) as object;
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
});

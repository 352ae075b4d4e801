import { expect, test } from 'vitest';
import { compare } from '../src/stream/compare';
import { Recordings } from '../src/stream/recordings';
import { mark, packed, paint, rate } from '../src/stream/raster';
import { align } from '../src/stream/traces';

function spikes(into: Recordings, times: number[], senders: number[], recorder = 3): void {
  into.take({ seq: 1, topic: 'spikes', recorder, model: 'spike_recorder', label: '', times, senders });
}
function samples(into: Recordings, times: number[], senders: number[], values: number[]): void {
  into.take({ seq: 1, topic: 'samples', recorder: 4, model: 'voltmeter', label: '', times, senders, values: { V_m: values }, units: { V_m: 'mV' } });
}

test('spikes of many events become one train', () => {
  const all = new Recordings();
  spikes(all, [1, 2], [10, 11]);
  spikes(all, [3], [9]);
  const train = all.spikes.get(3)!;
  expect([...train.times.view()]).toEqual([1, 2, 3]);
  expect([...train.senders.view()]).toEqual([10, 11, 9]);
  expect([train.lowest, train.highest, all.begin, all.end]).toEqual([9, 11, 1, 3]);
  all.clear();
  expect(all.empty).toBe(true);
});

test('what gets too long forgets its oldest and says how much', () => {
  const all = new Recordings(1000);
  for (let i = 0; i < 30; ++i) spikes(all, Array.from({ length: 100 }, (_, k) => i * 100 + k), new Array<number>(100).fill(1));
  const train = all.spikes.get(3)!;
  expect(train.times.length).toBeLessThanOrEqual(1000);
  expect(train.times.length + train.forgotten).toBe(3000);
  expect(train.times.data[train.times.length - 1]).toBe(2999);
});

test('samples are told apart by neuron, and only so many neurons are kept', () => {
  const all = new Recordings();
  samples(all, [1, 1, 2, 2], [5, 6, 5, 6], [-70, -60, -69, -61]);
  expect([...all.traces.values()].map((one) => [one.sender, one.unit, [...one.values.view()]])).toEqual([[5, 'mV', [-70, -69]], [6, 'mV', [-60, -61]]]);
  const ids = Array.from({ length: 100 }, (_, i) => i + 5);
  samples(all, ids.map(() => 3), ids, ids.map(() => 0));
  expect(all.traces.size).toBe(64);
  expect(all.left_out.get(4)!.size).toBe(36);
});

test('each spike marks its pixel, those outside none', () => {
  const window = { x0: 0, x1: 10, y0: 0, y1: 5 };
  const mask = mark([{ times: Float64Array.of(0, 9.9, 11, -1, 5), senders: Float64Array.of(0, 4.9, 1, 1, 7) },
    { times: Float64Array.of(0), senders: Float64Array.of(0) }], window, 10, 5);
  expect(mask.reduce((sum, bits) => sum + (bits ? 1 : 0), 0)).toBe(2);
  expect(mask[4 * 10]).toBe(3); // both, at the bottom left
  expect(mask[9]).toBe(1);      // the first only, at the top right
  const pixels = new Uint32Array(50);
  paint(mask, pixels, [packed('#ff0000'), packed('rgb(0, 255, 0)')], packed('#808080'));
  expect([pixels[40], pixels[9], pixels[20]]).toEqual([0xff808080, 0xff0000ff, 0]);
});

test('large points stay within the picture', () => {
  const mask = mark([{ times: Float64Array.of(0, 9.99), senders: Float64Array.of(0, 4.99) }], { x0: 0, x1: 10, y0: 0, y1: 5 }, 10, 5, 3, 3);
  expect(mask.reduce((sum, bits) => sum + (bits ? 1 : 0), 0)).toBe(8);
});

test('a million spikes are drawn by their pixels', () => {
  const n = 1_000_000, times = new Float64Array(n), senders = new Float64Array(n);
  for (let i = 0; i < n; ++i) { times[i] = (i * 7919) % 1000; senders[i] = (i / 1000 + i * 7) % 1250; }
  const mask = mark([{ times, senders }], { x0: 0, x1: 1000, y0: 0, y1: 1250 }, 900, 300);
  expect(mask.reduce((sum, bits) => sum + bits, 0)).toBeGreaterThan(50_000);
});

test('where points would run together, fuller pixels are stronger', () => {
  const counts = new Uint16Array(2), pixels = new Uint32Array(2);
  const mask = mark([{ times: Float64Array.of(0, 0, 0, 1), senders: Float64Array.of(0, 0, 0, 0) }], { x0: 0, x1: 2, y0: 0, y1: 1 }, 2, 1, 1, 1, counts);
  expect([...counts]).toEqual([3, 1]);
  paint(mask, pixels, [packed('#0000ff')], undefined, counts);
  expect(pixels[0]! >>> 24).toBeGreaterThan(pixels[1]! >>> 24);
  expect(pixels[0]! & 0xffffff).toBe(0xff0000);
});

test('a rate is per second and neuron', () => {
  const { x, y } = rate(Float64Array.of(1, 2, 3, 15), 0, 20, 2, 3);
  expect(x).toEqual([5, 15]);
  expect(y).toEqual([100, 1000 / 30]);
});

test('few samples are drawn as they are, also of different times', () => {
  expect(align([{ x: [0, 1, 2], y: [5, NaN, 7] }], 0, 2, 100)).toEqual([[0, 1, 2], [5, null, 7]]);
  expect(align([{ x: [0, 2], y: [1, 2] }, { x: [1], y: [9] }], 0, 2, 100)).toEqual([[0, 1, 2], [1, null, 2], [null, 9, null]]);
});

test('of many samples the extremes of each column stay, in their order', () => {
  const n = 100_000, x = Float64Array.from({ length: n }, (_, i) => i), y = Float64Array.from({ length: n }, (_, i) => Math.sin(i / 50));
  y[54_321] = 40;
  y[54_322] = -90;
  const [xs, ys] = align([{ x, y }], 0, n - 1, 500) as [number[], number[]];
  expect(xs.length).toBe(1000);
  expect(Math.max(...ys)).toBe(40);
  expect(Math.min(...ys)).toBe(-90);
  expect(ys.indexOf(-90)).toBe(ys.indexOf(40) + 1);
  for (let i = 1; i < xs.length; ++i) expect(xs[i]!).toBeGreaterThan(xs[i - 1]!);
});

test('a zoomed window takes one sample more on either side', () => {
  const x = Float64Array.from({ length: 100 }, (_, i) => i);
  expect(align([{ x, y: x }], 10.5, 12.5, 100)[0]).toEqual([10, 11, 12, 13]);
});

test('two recordings are told apart by their first difference', () => {
  const a = new Recordings(), b = new Recordings();
  spikes(a, [1, 2.1, 5], [7, 8, 7]);
  spikes(b, [1, 2.1, 4, 5], [7, 8, 9, 7]);
  samples(a, [1, 2, 3], [5, 5, 5], [0, 0, 1]);
  samples(b, [1, 2, 3], [5, 5, 5], [0, 0.5, 0.25]);
  const { spikes: [one], traces: [trace] } = compare(a, b);
  expect(one).toMatchObject({ a: 3, b: 4, shared: 3, first: { time: 4, sender: 9, only: 'B' } });
  expect(one!.rate_b).toBeCloseTo((4 * 1000) / 5 / 3);
  expect(trace).toMatchObject({ first_time: 2, largest: 0.75, same_grid: true });
});

test('the order in which threads list the spikes of a step does not matter', () => {
  const a = new Recordings(), b = new Recordings();
  spikes(a, [1, 1, 2], [3, 4, 5]);
  spikes(b, [1, 2, 1], [4, 5, 3]);
  expect(compare(a, b).spikes[0]).toMatchObject({ shared: 3, first: null });
});

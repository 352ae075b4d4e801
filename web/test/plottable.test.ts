import { expect, test } from 'vitest';
import { NdArray } from '../src/api/cbor';
import { nextScripts, examples } from '../src/app/examples';
import { bytes, seconds } from '../src/app/format';
import { parseRoute } from '../src/app/router.svelte';
import { brief, drawable } from '../src/stream/plottable';

test('arrays over a time are curves', () => {
  const t = Float64Array.of(0, 1, 2), drawn = drawable({ t, v: [1, 2, 3], n: 5, w: [1, 2] });
  expect(drawn.xName).toBe('t');
  expect(drawn.curves.map(({ name }) => name)).toEqual(['v']);
  expect(drawn.rest.map(([name]) => name)).toEqual(['n', 'w']);
});

test('a matrix over a time is a curve for each row, or column', () => {
  const t = [0, 1, 2];
  expect(drawable({ t, v: new NdArray([2, 3], Float64Array.of(1, 2, 3, 4, 5, 6)) }).curves.map(({ y }) => [...(y as number[])])).toEqual([[1, 2, 3], [4, 5, 6]]);
  expect(drawable({ t, v: [[1, 4], [2, 5], [3, 6]] }).curves.map(({ y }) => [...(y as Float64Array)])).toEqual([[1, 2, 3], [4, 5, 6]]);
});

test('without a time, or with one that goes back, the index counts', () => {
  const v = Array.from({ length: 12 }, (_, i) => i);
  expect(drawable({ v }).xName).toBe('index');
  expect(drawable({ t: [2, 1, 3], v }).xName).toBe('index');
  expect(drawable(v).curves[0]!.name).toBe('value');
  expect(drawable([1, 2, 4]).curves).toEqual([]);
  expect(drawable([1, 2, 4], 2).curves[0]!.y).toEqual([1, 2, 4]);
});

test('times with senders are spikes, also one level in', () => {
  expect(drawable({ times: [1, 2], senders: [3, 4] }).spikes!.senders).toEqual(Float64Array.of(3, 4));
  const inner = drawable({ events: { times: [1], senders: [2] }, n: 1 });
  expect([inner.spikes!.times.length, inner.rest.length]).toEqual([1, 1]);
});

test('nothing and odd things are no curves', () => {
  for (const value of [null, undefined, 5, 'text', {}, [], { a: null }]) expect(drawable(value).curves).toEqual([]);
  expect(drawable({ t: [0, 1], many: Array.from({ length: 20 }, () => [1, 2]) })).toMatchObject({ hidden: 12 });
});

test('values are shown briefly', () => {
  expect(brief(Float64Array.from({ length: 100 }, (_, i) => i / 3))).toMatch(/^\[0, 0\.3333333, .*…\] 100 values$/);
  expect(brief('x'.repeat(1000)).length).toBe(401);
  expect(brief({ a: [1] })).toBe('{"a":[1]}');
});

test('addresses', () => {
  expect(parseRoute('#/session/s_1')).toEqual({ view: 'session', ids: ['s_1'] });
  expect(parseRoute('#/compare/a/b').view).toBe('compare');
  expect(parseRoute('#/runs/a/b').view).toBe('compare-runs');
  for (const odd of ['', '#', '#/x', '#/session', '#token=1']) expect(parseRoute(odd).view).toBe('start');
});

test('numbers as people read them', () => {
  expect([bytes(0), bytes(999), bytes(1500), bytes(131e6), bytes(5e15)]).toEqual(['–', '999 B', '1.5 kB', '131 MB', '5000 TB']);
  expect([seconds(0.04), seconds(61), seconds(125), seconds(7300)]).toEqual(['0.0 s', '61 s', '2 min 5 s', '2 h 2 min']);
});

test('a branch of an example goes on with one thing changed', () => {
  for (const one of examples) {
    const next = nextScripts(one.engine, one.source, one.returns);
    expect(next).toBe(one.next);
    expect(nextScripts(one.engine, next.changed, '')).toBe(one.next);
    expect(next.same).not.toBe(next.changed);
  }
  expect(nextScripts('nest', 'nest.ResetKernel()', '').same).toContain('Simulate');
  expect(nextScripts('python', 'x = 1', 'x')).toEqual({ same: 'x = 1', changed: 'x = 1', returns: 'x' });
});

// What of a result can be drawn: arrays over a time ("t", "time", "times" …), spikes (times and senders), or arrays over their index.

import { NdArray } from '../api/cbor';

export interface Curve { name: string; x: ArrayLike<number>; y: ArrayLike<number> }
export interface Drawable { xName: string; curves: Curve[]; spikes: { times: Float64Array; senders: Float64Array } | null; rest: [string, unknown][]; hidden: number }

const time_names = /^(t|ts|time|times|t_ms|time_ms|x)$/i;
const curves_most = 8;

export function numeric(value: unknown): ArrayLike<number> | null {
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return value as unknown as ArrayLike<number>;
  if (value instanceof NdArray && value.shape.length === 1) return numeric(value.data);
  if (Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'number' || one === null))
    return value.map((one) => (one === null ? NaN : (one as number)));
  return null;
}

export function rows(value: unknown): ArrayLike<number>[] | null {
  if (value instanceof NdArray && value.shape.length === 2) {
    const [n = 0, m = 0] = value.shape, flat = Array.from(value.data as ArrayLike<number>);
    return Array.from({ length: n }, (_, i) => flat.slice(i * m, (i + 1) * m));
  }
  if (Array.isArray(value) && value.length > 0 && value.every(Array.isArray)) {
    const all = value.map(numeric);
    if (all.every((row) => row !== null && row.length === all[0]!.length)) return all as ArrayLike<number>[];
  }
  return null;
}

function transposed(matrix: ArrayLike<number>[]): ArrayLike<number>[] {
  const width = matrix[0]?.length ?? 0;
  return Array.from({ length: width }, (_, j) => Float64Array.from(matrix, (row) => row[j]!));
}

const ascends = (x: ArrayLike<number>): boolean => {
  for (let i = 1; i < x.length; ++i) if (!(x[i]! > x[i - 1]!)) return false;
  return x.length >= 2;
};

/** `fewest`: arrays over their index that are shorter are told, not drawn. */
export function drawable(data: unknown, fewest = 10): Drawable {
  const out: Drawable = { xName: '', curves: [], spikes: null, rest: [], hidden: 0 };
  const isMap = data !== null && typeof data === 'object' && !Array.isArray(data) && !ArrayBuffer.isView(data) && !(data instanceof NdArray);
  const entries: [string, unknown][] = isMap ? Object.entries(data as Record<string, unknown>) : data === null || data === undefined ? [] : [['value', data]];

  // One level further in: {"events": {"times": …, "senders": …}}
  const flat: [string, unknown][] = [];
  for (const [name, value] of entries) {
    const inner = value as Record<string, unknown> | null;
    const times = inner && typeof inner === 'object' ? numeric(inner.times) : null;
    const senders = inner && typeof inner === 'object' ? numeric(inner.senders) : null;
    if (times && senders && times.length === senders.length && Object.keys(inner!).length === 2 && !out.spikes)
      out.spikes = { times: Float64Array.from(times), senders: Float64Array.from(senders) };
    else flat.push([name, value]);
  }
  const find = (pattern: RegExp): [string, ArrayLike<number>] | null => {
    for (const [name, value] of flat) {
      const array = pattern.test(name) ? numeric(value) : null;
      if (array) return [name, array];
    }
    return null;
  };
  const times = find(/^times$/), senders = find(/^senders$/);
  if (!out.spikes && times && senders && times[1].length === senders[1].length && flat.length === 2) {
    out.spikes = { times: Float64Array.from(times[1]), senders: Float64Array.from(senders[1]) };
    return out;
  }

  const time = find(time_names);
  const x = time && ascends(time[1]) ? time : null;
  out.xName = x ? x[0] : 'index';
  for (const [name, value] of flat) {
    if (x && name === x[0]) continue;
    const one = numeric(value), many = one ? null : rows(value);
    if (one && (x ? one.length === x[1].length : one.length >= fewest)) {
      out.curves.push({ name, x: x ? x[1] : Float64Array.from({ length: one.length }, (_, i) => i), y: one });
    } else if (many && x && (many[0]!.length === x[1].length || many.length === x[1].length)) {
      const lines = many[0]!.length === x[1].length ? many : transposed(many);
      lines.forEach((y, i) => out.curves.push({ name: `${name}[${i}]`, x: x[1], y }));
    } else {
      out.rest.push([name, value]);
    }
  }
  if (out.curves.length > curves_most) {
    out.hidden = out.curves.length - curves_most;
    out.curves.length = curves_most;
  }
  if (x && out.curves.length === 0) out.rest.unshift([x[0], x[1]]);
  return out;
}

/** A value in a line or a few: arrays by their shape and beginning. */
export function brief(value: unknown, most = 400): string {
  if (value instanceof NdArray) return `array ${value.shape.join(' × ')}: ${brief(value.data, most)}`;
  if (ArrayBuffer.isView(value)) {
    const array = value as unknown as ArrayLike<number>;
    const head = Array.from({ length: Math.min(8, array.length) }, (_, i) => shortNumber(array[i]!)).join(', ');
    return array.length <= 8 ? `[${head}]` : `[${head}, …] ${array.length} values`;
  }
  if (typeof value === 'number') return shortNumber(value);
  if (typeof value === 'string') return value.length > most ? value.slice(0, most) + '…' : value;
  if (Array.isArray(value) && value.length > 8 && value.every((one) => typeof one === 'number')) return brief(Float64Array.from(value as number[]));
  const text = JSON.stringify(value, (_key, inner: unknown) => (ArrayBuffer.isView(inner) || inner instanceof NdArray ? brief(inner) : inner)) ?? 'null';
  return text.length > most ? text.slice(0, most) + '…' : text;
}

export function shortNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(7)));
}

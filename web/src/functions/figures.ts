// A result as its declaration says that it be shown: plots, pictures, and values with units. Without declared plots: what can be drawn
// of itself.

import { NdArray } from '../api/cbor';
import type { Declaration } from '../api/types';
import { drawable, numeric, rows } from '../stream/plottable';

export interface Curve { name: string; x: ArrayLike<number>; y: ArrayLike<number> }
export type Figure =
  | { kind: 'curves'; title: string; xLabel: string; unit: string; curves: Curve[]; dots: boolean; ordered: boolean; hidden: number }
  | { kind: 'spikes'; title: string; times: Float64Array; senders: Float64Array }
  | { kind: 'picture'; title: string; src: string };
export interface Value { name: string; value: unknown; unit: string; help: string }
export interface Shown { figures: Figure[]; values: Value[]; notes: string[] }

type Shows = Pick<Declaration, 'plots' | 'results'>;
const curves_most = 8;

const isMap = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === 'object' && !Array.isArray(value) && !ArrayBuffer.isView(value) && !(value instanceof NdArray);

/** The value of this name: a key, or a path of keys with dots; "data" is the whole of what is no map. */
export function look(data: unknown, name: string): unknown {
  if (!isMap(data)) return name === 'data' ? data : undefined;
  if (Object.hasOwn(data, name)) return data[name];
  const dot = name.indexOf('.');
  return dot > 0 && Object.hasOwn(data, name.slice(0, dot)) ? look(data[name.slice(0, dot)], name.slice(dot + 1)) : undefined;
}

/** A picture as an address that an <img> may have: there, nothing in an SVG runs. */
export function pictureSource(value: unknown): string | null {
  if (!isMap(value)) return null;
  const type = value.media_type, data = value.base64 ?? value.data;
  if ((type !== 'image/png' && type !== 'image/svg+xml') || value === null) return null;
  if (typeof data === 'string' && /^[\w+/]*={0,2}$/.test(data)) return `data:${type};base64,${data}`;
  if (data instanceof Uint8Array) {
    let text = '';
    for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
    return `data:${type};base64,${btoa(text)}`;
  }
  return null;
}

/** An SVG's text as such an address. */
export function svgSource(text: string): string { return 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(text); }

const ascends = (x: ArrayLike<number>): boolean => {
  for (let i = 1; i < x.length; ++i) if (!(x[i]! >= x[i - 1]!)) return false;
  return true;
};

export function withUnit(name: string, unit: string | undefined): string { return unit ? `${name} (${unit})` : name; }

export function curvesOf(x: unknown, y: unknown, name: string): Curve[] | null {
  const xs = numeric(x);
  if (!xs) return null;
  const one = numeric(y);
  if (one) return one.length === xs.length ? [{ name, x: xs, y: one }] : null;
  const many = rows(y);
  if (many && many[0]!.length === xs.length) return many.map((row, i) => ({ name: `${name}[${i}]`, x: xs, y: row }));
  return null;
}

function flatten(data: unknown, prefix: string, depth: number): [string, unknown][] {
  if (!isMap(data) || pictureSource(data) || depth > 2 || Object.keys(data).length > 50) return [[prefix || 'data', data]];
  const inner = Object.entries(data);
  if (inner.length === 0) return [[prefix || 'data', {}]];
  return inner.flatMap(([key, value]) => flatten(value, prefix ? `${prefix}.${key}` : key, depth + 1));
}

export function shown(data: unknown, declared: Shows): Shown {
  const figures: Figure[] = [], notes: string[] = [], used = new Set<string>();
  const unitOf = (name: string): string | undefined => (Object.hasOwn(declared.results, name) ? declared.results[name]!.unit : undefined);
  for (const plot of declared.plots) {
    if (plot.kind === 'picture') {
      const name = plot.name ?? 'data', src = pictureSource(look(data, name));
      if (src) { figures.push({ kind: 'picture', title: plot.title || name, src }); used.add(name); }
      continue;
    }
    const x = plot.x ?? '', names = plot.y ?? [], curves: Curve[] = [];
    for (const name of names) {
      const some = curvesOf(look(data, x), look(data, name), name);
      if (some) { curves.push(...some); used.add(x).add(name); }
      else notes.push(`${name} over ${x} could not be drawn: they are no arrays of numbers of one length.`);
    }
    if (!curves.length) continue;
    const units = [...new Set(names.map((name) => unitOf(name) ?? ''))];
    const hidden = Math.max(0, curves.length - curves_most);
    figures.push({ kind: 'curves', title: plot.title || `${names.join(', ')} over ${x}`, xLabel: withUnit(x, unitOf(x)), unit: units.length === 1 ? units[0]! : '', curves: curves.slice(0, curves_most),
      dots: plot.kind === 'dots', ordered: ascends(curves[0]!.x), hidden });
  }
  for (const [name, value] of flatten(data, '', 0)) {
    const src = used.has(name) ? null : pictureSource(value);
    if (src) { figures.push({ kind: 'picture', title: name, src }); used.add(name); }
  }
  const rest = flatten(data, '', 0).filter(([name]) => !used.has(name));
  if (declared.plots.length === 0) {
    const drawn = drawable(isMap(data) ? Object.fromEntries(Object.entries(data).filter(([name]) => !used.has(name))) : used.size ? null : data);
    if (drawn.spikes) figures.push({ kind: 'spikes', title: 'Spikes', ...drawn.spikes });
    if (drawn.curves.length) {
      const units = [...new Set(drawn.curves.map(({ name }) => unitOf(name.replace(/\[\d+\]$/, '')) ?? ''))];
      figures.push({ kind: 'curves', title: [...new Set(drawn.curves.map(({ name }) => name.replace(/\[\d+\]$/, '')))].join(', '), xLabel: withUnit(drawn.xName, unitOf(drawn.xName)), unit: units.length === 1 ? units[0]! : '',
        curves: drawn.curves, dots: false, ordered: true, hidden: drawn.hidden });
    }
  }
  const drawnNames = new Set(figures.flatMap((one) => (one.kind === 'curves' ? one.curves.map(({ name }) => name.replace(/\[\d+\]$/, '')) : [])));
  const values = rest.filter(([name]) => !drawnNames.has(name)).slice(0, 100)
    .map(([name, value]): Value => ({ name, value, unit: unitOf(name) ?? '', help: Object.hasOwn(declared.results, name) ? declared.results[name]!.help ?? '' : '' }));
  return { figures, values, notes };
}

// Sweeps: the points of one or two parameters, and what of a result (complete or not) can be drawn over them.

import { NdArray } from '../api/cbor';
import type { DeclaredPlot, Parameter, SweepResult } from '../api/types';
import { numeric } from '../stream/plottable';
import { isNumber, logarithmic, slides } from './form';
import { look, type Curve } from './figures';

export interface Axis { name: string; from: string; to: string; count: string; logarithmic: boolean }

export const canSweep = (parameter: Parameter): boolean => isNumber(parameter);
export const points_most = 10_000;

export function axisOf(parameter: Parameter): Axis {
  const bounded = slides(parameter), start = typeof parameter.default === 'number' ? parameter.default : 0;
  const from = bounded ? parameter.minimum! : parameter.minimum ?? start, to = bounded ? parameter.maximum! : parameter.maximum ?? (start > from ? start * 2 : from + 1);
  const whole = parameter.kind === 'integer' ? Math.min(10, Math.floor(to) - Math.ceil(from) + 1) : 10;
  return { name: parameter.name, from: String(from), to: String(to), count: String(whole), logarithmic: logarithmic(parameter) };
}

/** The axis's values, or what is wrong with it. */
export function valuesOf(axis: Axis, parameter: Parameter): number[] | string {
  const from = Number(axis.from), to = Number(axis.to), count = Number(axis.count);
  if (axis.from.trim() === '' || axis.to.trim() === '' || !Number.isFinite(from) || !Number.isFinite(to)) return 'From and to are numbers.';
  if (!Number.isInteger(count) || count < 1 || count > points_most) return `The number of points is between 1 and ${points_most}.`;
  for (const end of [from, to])
    if ((parameter.minimum !== undefined && end < parameter.minimum) || (parameter.maximum !== undefined && end > parameter.maximum))
      return `It is between ${parameter.minimum ?? '−∞'} and ${parameter.maximum ?? '∞'}.`;
  if (axis.logarithmic && !(from > 0 && to > 0)) return 'A logarithmic axis is above 0.';
  const out: number[] = [];
  for (let i = 0; i < count; ++i) {
    const part = count === 1 ? 0 : i / (count - 1);
    let value = part === 1 ? to : axis.logarithmic ? from * (to / from) ** part : from + part * (to - from);
    value = parameter.kind === 'integer' ? Math.round(value) : Number(value.toPrecision(12));
    if (out[out.length - 1] !== value) out.push(value);
  }
  return out;
}

// Of one result, `inner` is the shape that it has at each point.
interface Block { flat: ArrayLike<number>; inner: number[] }
export type Reduction = 'each' | 'max' | 'min' | 'mean' | 'last';

function blockOf(value: unknown, grid: readonly number[]): Block | null {
  const points = grid.reduce((product, n) => product * n, 1);
  if (value instanceof NdArray) {
    const flat = numeric(value.data), inner = value.shape.slice(grid.length);
    return flat && grid.every((n, i) => value.shape[i] === n) ? { flat, inner } : null;
  }
  const one = numeric(value);
  if (one) return grid.length === 1 && one.length === points ? { flat: one, inner: [] } : null;
  if (!Array.isArray(value)) return null;
  // Nested lists, as JSON has them.
  const shape: number[] = [];
  for (let at: unknown = value; Array.isArray(at) || ArrayBuffer.isView(at); at = (at as ArrayLike<unknown>)[0]) shape.push((at as ArrayLike<unknown>).length);
  const all = (value as unknown[]).flat(Infinity).flatMap((part) => (ArrayBuffer.isView(part) ? Array.from(part as unknown as ArrayLike<number>) : [part]));
  if (!grid.every((n, i) => shape[i] === n) || all.length !== shape.reduce((product, n) => product * n, 1)) return null;
  return all.every((part) => typeof part === 'number' || part === null) ? { flat: all.map((part) => (part === null ? NaN : (part as number))), inner: shape.slice(grid.length) } : null;
}

function names(results: unknown, prefix = '', depth = 0): string[] {
  if (results === null || typeof results !== 'object' || Array.isArray(results) || ArrayBuffer.isView(results) || results instanceof NdArray) return prefix ? [prefix] : ['data'];
  return depth > 2 ? [] : Object.entries(results).flatMap(([key, value]) => names(value, prefix ? `${prefix}.${key}` : key, depth + 1));
}

export interface Choice { name: string; scalar: boolean }

/** What can be drawn: numbers, and arrays of one dimension. */
export function choices(result: SweepResult, axes: readonly number[][]): Choice[] {
  const grid = axes.map((one) => one.length);
  return names(result.results).flatMap((name) => {
    const block = blockOf(look(result.results, name), grid);
    return block && block.inner.length <= 1 && block.inner.every((n) => n > 1 && n <= 1_000_000) ? [{ name, scalar: block.inner.length === 0 }] : [];
  });
}

function reduce(block: Block, point: number, how: Reduction): number {
  const width = block.inner[0] ?? 1;
  if (block.inner.length === 0) return block.flat[point]!;
  let out = how === 'max' ? -Infinity : how === 'min' ? Infinity : 0;
  for (let i = point * width; i < (point + 1) * width; ++i) {
    const value = block.flat[i]!;
    if (how === 'last') out = value;
    else if (how === 'max') out = Math.max(out, value);
    else if (how === 'min') out = Math.min(out, value);
    else out += value / width;
  }
  return Number.isFinite(out) ? out : NaN;
}

const spread = (n: number, most: number): number[] => (n <= most ? Array.from({ length: n }, (_, i) => i) : Array.from({ length: most }, (_, i) => Math.round((i * (n - 1)) / (most - 1))));
const brief = (value: number): string => String(Number(value.toPrecision(5)));

/** One choice over the axes: over the first, a curve for each value of the second; or, of arrays, one curve for each point over x. */
export function curves(result: SweepResult, choice: string, how: Reduction, axisNames: readonly string[], axes: readonly number[][], plots: readonly DeclaredPlot[]): { curves: Curve[]; xName: string; hidden: number } {
  const grid = axes.map((one) => one.length), block = blockOf(look(result.results, choice), grid);
  const first = axes[0] ?? [], second = axes[1];
  if (!block) return { curves: [], xName: axisNames[0] ?? '', hidden: 0 };
  if (how === 'each' && block.inner.length === 1) {
    const width = block.inner[0]!, total = grid.reduce((product, n) => product * n, 1);
    const xName = plots.find((one) => one.y?.includes(choice))?.x ?? '';
    const x = xName ? blockOf(look(result.results, xName), grid) : null;
    const fits = x && x.inner[0] === width;
    const wanted: number[] = [];
    for (let p = 0; p < total; ++p) if (Number.isFinite(block.flat[p * width]!)) wanted.push(p);
    const chosen = spread(wanted.length, 8).map((i) => wanted[i]!);
    const slice = (from: ArrayLike<number>, p: number): Float64Array => Float64Array.from({ length: width }, (_, i) => from[p * width + i]!);
    return { xName: fits ? xName : 'index', hidden: wanted.length - chosen.length, curves: chosen.map((p) => {
      const a = second ? Math.floor(p / second.length) : p;
      return { name: `${axisNames[0]} ${brief(first[a]!)}` + (second ? `, ${axisNames[1]} ${brief(second[p % second.length]!)}` : ''), x: fits ? slice(x.flat, p) : Float64Array.from({ length: width }, (_, i) => i), y: slice(block.flat, p) };
    }) };
  }
  // Over the axis in ascending order.
  const order = first.map((_, i) => i).sort((i, j) => first[i]! - first[j]!), x = order.map((i) => first[i]!);
  const reduction = how === 'each' ? 'mean' : how;
  if (!second) return { xName: axisNames[0] ?? '', hidden: 0, curves: [{ name: choice, x, y: order.map((i) => reduce(block, i, reduction)) }] };
  const shownRows = spread(second.length, 8);
  return { xName: axisNames[0] ?? '', hidden: second.length - shownRows.length,
    curves: shownRows.map((b) => ({ name: `${axisNames[1]} ${brief(second[b]!)}`, x, y: order.map((a) => reduce(block, a * second.length + b, reduction)) })) };
}

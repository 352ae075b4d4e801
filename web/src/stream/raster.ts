// Spikes to pixels. However many there are, each costs a few integer operations, and a pixel is a pixel: 10^6 spikes redraw in
// some 10 ms on the CPU, without any graphics acceleration.

export interface Layer { times: Float64Array; senders: Float64Array }
export interface Window { x0: number; x1: number; y0: number; y1: number }

const most = 3_000_000; // more than this in one layer is thinned evenly

/** Marks each spike of each layer as bit `layer` of its pixel; a spike covers `wide` × `tall` pixels, centred. With `counts` (one
 *  number a pixel), spikes are one pixel each, and counted. */
export function mark(layers: readonly Layer[], window: Window, width: number, height: number, wide = 1, tall = 1, counts?: Uint16Array): Uint8Array {
  const mask = new Uint8Array(width * height);
  const sx = width / (window.x1 - window.x0), sy = height / (window.y1 - window.y0);
  const left = (wide - 1) >> 1, up = (tall - 1) >> 1;
  for (let l = 0; l < Math.min(layers.length, 8); ++l) {
    const { times, senders } = layers[l]!;
    const bit = 1 << l, step = Math.max(1, Math.ceil(times.length / most));
    for (let i = 0; i < times.length; i += step) {
      const x = Math.floor((times[i]! - window.x0) * sx), y = height - 1 - Math.floor((senders[i]! - window.y0) * sy);
      if (x < 0 || x >= width || y < 0 || y >= height) continue;
      if (counts) { const at = y * width + x; mask[at]! |= bit; if (counts[at]! < 65535) counts[at]! += 1; continue; }
      if (wide === 1 && tall === 1) { mask[y * width + x]! |= bit; continue; }
      const x1 = Math.min(width - 1, x - left + wide - 1), y1 = Math.min(height - 1, y - up + tall - 1);
      for (let yy = Math.max(0, y - up); yy <= y1; ++yy)
        for (let xx = Math.max(0, x - left); xx <= x1; ++xx) mask[yy * width + xx]! |= bit;
    }
  }
  return mask;
}

/** Colours (0xAABBGGRR) by mask: one layer on top of the others, or for a comparison `both` where two meet. With `counts`, the
 *  fuller pixels are the stronger. */
export function paint(mask: Uint8Array, pixels: Uint32Array, colours: readonly number[], both?: number, counts?: Uint16Array): void {
  let full = 1;
  if (counts) {
    let sum = 0, used = 0;
    for (const count of counts) if (count) { sum += count; used += 1; }
    full = used ? (2.5 * sum) / used : 1;
  }
  for (let i = 0; i < mask.length; ++i) {
    const bits = mask[i]!;
    if (bits === 0) pixels[i] = 0;
    else if (both !== undefined && bits === 3) pixels[i] = both;
    else pixels[i] = colours[(31 - Math.clz32(bits)) % colours.length]!;
    if (counts && bits) pixels[i] = ((pixels[i]! & 0xffffff) | (Math.min(255, 50 + Math.round((205 * counts[i]!) / full)) << 24)) >>> 0;
  }
}

/** "#rrggbb" or "rgb(r, g, b)" as 0xAABBGGRR. */
export function packed(colour: string): number {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour.trim());
  if (hex) {
    const n = parseInt(hex[1]!, 16);
    return ((0xff << 24) | ((n & 255) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
  }
  const [r = 0, g = 0, b = 0] = (colour.match(/[\d.]+/g) ?? []).map(Number);
  return ((0xff << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** The population's rate: per bin, spikes per second and neuron; only bins that lie before `until`. */
export function rate(times: Float64Array, x0: number, x1: number, bins: number, neurons: number, until = x1): { x: number[]; y: number[] } {
  const counts = new Float64Array(bins), width = (x1 - x0) / bins;
  for (let i = 0; i < times.length; ++i) {
    const bin = Math.floor((times[i]! - x0) / width);
    if (bin >= 0 && bin < bins) counts[bin]! += 1;
  }
  const per = 1000 / (width * Math.max(1, neurons));
  const x: number[] = [], y: number[] = [];
  for (let i = 0; i < bins && x0 + (i + 1) * width <= until + width * 1e-6; ++i) { x.push(x0 + (i + 0.5) * width); y.push(counts[i]! * per); }
  return { x, y };
}

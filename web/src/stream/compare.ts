// Two recordings in numbers: how many spikes, how often, and where they part.

import type { Recordings, SpikeTrain, Trace } from './recordings';

export interface SpikeComparison {
  recorder: number; name: string; a: number; b: number; rate_a: number; rate_b: number; shared: number;
  first: { time: number; sender: number; only: 'A' | 'B' } | null;
}
export interface TraceComparison { key: string; name: string; unit: string; first_time: number | null; largest: number; same_grid: boolean }

const senders_of_key = 2 ** 20, steps_of_ms = 1000; // a spike as one exact number: µs and sender

function keys(train: SpikeTrain): Float64Array {
  const out = new Float64Array(train.times.length), times = train.times.data, senders = train.senders.data;
  for (let i = 0; i < out.length; ++i) out[i] = Math.round(times[i]! * steps_of_ms) * senders_of_key + senders[i]!;
  return out.sort();
}

function spikes(a: SpikeTrain, b: SpikeTrain, duration_ms: number): SpikeComparison {
  const ka = keys(a), kb = keys(b);
  let i = 0, j = 0, shared = 0;
  let first: SpikeComparison['first'] = null;
  while (i < ka.length || j < kb.length) {
    const x = i < ka.length ? ka[i]! : Infinity, y = j < kb.length ? kb[j]! : Infinity;
    if (x === y) { shared += 1; i += 1; j += 1; continue; }
    if (!first) {
      const key = Math.min(x, y);
      first = { time: Math.floor(key / senders_of_key) / steps_of_ms, sender: key % senders_of_key, only: x < y ? 'A' : 'B' };
    }
    if (x < y) i += 1;
    else j += 1;
  }
  const neurons = new Set<number>();
  for (const train of [a, b]) for (let k = 0; k < train.senders.length; ++k) neurons.add(train.senders.data[k]!);
  const per = 1000 / (Math.max(duration_ms, 1e-9) * Math.max(1, neurons.size));
  return { recorder: a.recorder, name: a.name, a: ka.length, b: kb.length, rate_a: ka.length * per, rate_b: kb.length * per, shared, first };
}

function trace(a: Trace, b: Trace): TraceComparison {
  const name = `${a.quantity} of ${a.sender}`;
  const length = Math.min(a.times.length, b.times.length);
  let first_time: number | null = null, largest = 0;
  for (let i = 0; i < length; ++i) {
    if (a.times.data[i] !== b.times.data[i]) return { key: a.key, name, unit: a.unit, first_time: a.times.data[i]!, largest: NaN, same_grid: false };
    const difference = Math.abs(a.values.data[i]! - b.values.data[i]!);
    if (difference > 0 && first_time === null) first_time = a.times.data[i]!;
    if (difference > largest) largest = difference;
  }
  return { key: a.key, name, unit: a.unit, first_time, largest, same_grid: true };
}

export function compare(a: Recordings, b: Recordings): { spikes: SpikeComparison[]; traces: TraceComparison[] } {
  const end = Math.max(a.end, b.end); // simulated time begins at 0
  const out: { spikes: SpikeComparison[]; traces: TraceComparison[] } = { spikes: [], traces: [] };
  for (const [id, train] of a.spikes) {
    const other = b.spikes.get(id);
    if (other) out.spikes.push(spikes(train, other, end));
  }
  for (const [key, one] of a.traces) {
    const other = b.traces.get(key);
    if (other && out.traces.length < 8) out.traces.push(trace(one, other));
  }
  return out;
}

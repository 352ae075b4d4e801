// What the recorders of one session have sent, kept in columns that grow. Bounded: a train that gets longer than `most` forgets its
// older half and says how much is gone.

import type { Numbers, StreamEvent } from './events';

export class Column {
  data: Float64Array;
  length = 0;
  constructor(capacity = 1024) { this.data = new Float64Array(capacity); }

  append(values: Numbers): void {
    const need = this.length + values.length;
    if (need > this.data.length) {
      const grown = new Float64Array(Math.max(need, this.data.length * 2));
      grown.set(this.data.subarray(0, this.length));
      this.data = grown;
    }
    this.data.set(values, this.length);
    this.length = need;
  }
  push(value: number): void {
    if (this.length === this.data.length) {
      const grown = new Float64Array(this.data.length * 2);
      grown.set(this.data);
      this.data = grown;
    }
    this.data[this.length++] = value;
  }
  forget(count: number): void {
    this.data.copyWithin(0, count, this.length);
    this.length -= count;
  }
  view(): Float64Array { return this.data.subarray(0, this.length); }
}

export interface SpikeTrain { recorder: number; name: string; times: Column; senders: Column; forgotten: number; lowest: number; highest: number; latest: number }
export interface Trace { key: string; recorder: number; quantity: string; unit: string; sender: number; times: Column; values: Column; forgotten: number }

const senders_most = 64; // traces kept for one recorder; the plot shows fewer

export class Recordings {
  readonly spikes = new Map<number, SpikeTrain>();
  readonly traces = new Map<string, Trace>();
  /** Recorder → senders whose traces are not kept. */
  readonly left_out = new Map<number, Set<number>>();
  begin = Infinity;
  end = -Infinity;

  constructor(private readonly most = 4_000_000) {}

  get empty(): boolean { return this.spikes.size === 0 && this.traces.size === 0; }

  clear(): void {
    this.spikes.clear();
    this.traces.clear();
    this.left_out.clear();
    this.begin = Infinity;
    this.end = -Infinity;
  }

  /** True if the event was one of a recorder. */
  take(event: StreamEvent): boolean {
    if (event.topic === 'spikes') this.takeSpikes(event);
    else if (event.topic === 'samples') this.takeSamples(event);
    else return false;
    return true;
  }

  private span(times: Numbers): void {
    for (let i = 0; i < times.length; ++i) {
      const t = times[i]!;
      if (t < this.begin) this.begin = t;
      if (t > this.end) this.end = t;
    }
  }

  private takeSpikes(event: Extract<StreamEvent, { topic: 'spikes' }>): void {
    let train = this.spikes.get(event.recorder);
    if (!train) {
      train = { recorder: event.recorder, name: event.label || `${event.model} ${event.recorder}`, times: new Column(), senders: new Column(),
        forgotten: 0, lowest: Infinity, highest: -Infinity, latest: -Infinity };
      this.spikes.set(event.recorder, train);
    }
    train.times.append(event.times);
    train.senders.append(event.senders);
    for (let i = 0; i < event.senders.length; ++i) {
      const sender = event.senders[i]!;
      if (sender < train.lowest) train.lowest = sender;
      if (sender > train.highest) train.highest = sender;
    }
    this.span(event.times);
    if (train.times.length > this.most) {
      const old = train.times.length - (this.most >> 1);
      train.times.forget(old);
      train.senders.forget(old);
      train.forgotten += old;
    }
  }

  private takeSamples(event: Extract<StreamEvent, { topic: 'samples' }>): void {
    if (event.restart)  // what came of this recorder before is no more
      for (const key of [...this.traces.keys()]) if (key.startsWith(`${event.recorder}/`)) this.traces.delete(key);
    for (const [quantity, values] of Object.entries(event.values)) {
      const bySender = new Map<number, Trace | null>();
      for (let i = 0; i < values.length; ++i) {
        const sender = event.senders[i] ?? 0;
        let trace = bySender.get(sender);
        if (trace === undefined) {
          trace = this.traceOf(event.recorder, quantity, event.units?.[quantity] ?? '', sender);
          bySender.set(sender, trace);
        }
        if (!trace) continue;
        trace.times.push(event.times[i]!);
        trace.values.push(values[i]!);
        if (trace.times.length > this.most >> 2) {
          const old = this.most >> 3;
          trace.times.forget(old);
          trace.values.forget(old);
          trace.forgotten += old;
        }
      }
    }
    this.span(event.times);
  }

  private traceOf(recorder: number, quantity: string, unit: string, sender: number): Trace | null {
    const key = `${recorder}/${quantity}/${sender}`;
    const known = this.traces.get(key);
    if (known) return known;
    let count = 0;
    for (const trace of this.traces.values()) if (trace.recorder === recorder && trace.quantity === quantity) count += 1;
    if (count >= senders_most) {
      let out = this.left_out.get(recorder);
      if (!out) this.left_out.set(recorder, (out = new Set()));
      out.add(sender);
      return null;
    }
    const trace: Trace = { key, recorder, quantity, unit: unit || unitOf(quantity), sender, times: new Column(), values: new Column(), forgotten: 0 };
    this.traces.set(key, trace);
    return trace;
  }
}

function unitOf(quantity: string): string {
  if (/^V|^E_|^theta|^v$/.test(quantity)) return 'mV';
  if (/^I_/.test(quantity)) return 'pA';
  if (/^g_/.test(quantity)) return 'nS';
  return '';
}

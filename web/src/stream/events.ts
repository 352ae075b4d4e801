// The events of a session's stream, as spec/native-api.md says them. Arrays are lists (JSON) or typed arrays (CBOR).

import type { Cause } from '../api/types';

export type Numbers = ArrayLike<number>;

export type StreamEvent = { seq: number } & (
  | { topic: 'spikes'; recorder: number; model: string; label: string; times: Numbers; senders: Numbers }
  | { topic: 'samples'; recorder: number; model: string; label: string; times: Numbers; senders: Numbers;
      values: Record<string, Numbers>; units: Record<string, string>; restart?: boolean }
  | { topic: 'stdout'; text: string }
  | { topic: 'progress'; done: number; time_ms?: number; of_ms?: number }
  | { topic: 'state'; state: string; call?: unknown; ok?: boolean; cause?: Cause }
  | { topic: 'gap'; from: number; to: number }
  | { topic: 'note'; text: string }
);

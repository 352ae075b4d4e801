// Follows one session's stream over WebSockets: reconnects with what it has seen (`after`), waits longer after each failure, and
// says in which state it is. A server without the route, or a session that is gone, is found out by one plain request.

import { decodeCbor } from '../api/cbor';
import type { StreamEvent } from './events';

export type FollowState = 'connecting' | 'live' | 'reconnecting' | 'unavailable' | 'ended' | 'closed';

/** What of a WebSocket is used; tests give their own. */
export interface Socket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  close(): void;
}

export interface FollowOptions {
  url: (after: number) => string;
  token: string;
  /** Why a connection could not be made: 'unavailable' (no such route), 'ended' (no such session), or 'retry'. */
  probe: () => Promise<'unavailable' | 'ended' | 'retry'>;
  onEvent: (event: StreamEvent) => void;
  onState: (state: FollowState) => void;
  /** The server counts anew: what it has comes again from its beginning. */
  onRenumbered?: () => void;
  open?: (url: string, protocols: string[]) => Socket;
  firstDelayMs?: number;
  longestDelayMs?: number;
}

const data = new Set(['spikes', 'samples', 'stdout', 'gap', 'note']);

export class Follower {
  private socket: Socket | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private failures = 0;
  private last = 0; // the newest seq that was handed on
  private state: FollowState = 'connecting';
  private isFirst = true;

  constructor(private readonly options: FollowOptions) { this.connect(); }

  /** Does not wait for the next try, e.g. because the network is back. */
  hurry(): void {
    if (this.state !== 'reconnecting') return;
    this.drop();
    this.connect();
  }

  close(): void {
    this.drop();
    this.enter('closed');
  }

  private drop(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    const socket = this.socket;
    this.socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  private enter(state: FollowState): void {
    if (state === this.state) return;
    this.state = state;
    this.options.onState(state);
  }

  private connect(): void {
    const open = this.options.open ?? ((url, protocols) => new WebSocket(url, protocols) as unknown as Socket);
    const protocols = this.options.token ? ['myelin', 'token.' + this.options.token] : ['myelin'];
    let opened = false;
    const socket = open(this.options.url(this.last), protocols);
    this.socket = socket;
    this.isFirst = true;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => { opened = true; this.enter('live'); };
    socket.onmessage = (message) => {
      this.failures = 0;
      this.take(message.data);
    };
    socket.onclose = () => {
      this.socket = null;
      if (this.state === 'ended' || this.state === 'closed') return;
      if (opened) this.later();
      else void this.ask();
    };
  }

  private async ask(): Promise<void> {
    this.enter('reconnecting');
    const found = await this.options.probe().catch(() => 'retry' as const);
    if (this.state !== 'reconnecting' || this.socket || this.timer) return;
    if (found === 'retry') this.later();
    else this.enter(found);
  }

  private later(): void {
    this.enter('reconnecting');
    const longest = this.options.longestDelayMs ?? 10_000;
    const delay = Math.min(longest, (this.options.firstDelayMs ?? 250) * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    // Some of the delay is chance, so that many pages do not come back at once.
    this.timer = setTimeout(() => { this.timer = null; this.connect(); }, delay * (0.75 + Math.random() / 2));
  }

  private take(message: unknown): void {
    let event: StreamEvent;
    try {
      event = (typeof message === 'string' ? JSON.parse(message) : decodeCbor(new Uint8Array(message as ArrayBuffer))) as StreamEvent;
    } catch (error) {
      console.warn('an event of the stream could not be read', error);
      return;
    }
    // The first event tells the present state; its number may be ahead of what is sent again after it.
    const greeting = this.isFirst && event.topic === 'state';
    this.isFirst = false;
    if (greeting && typeof event.seq === 'number' && event.seq < this.last) {
      this.options.onRenumbered?.();
      this.last = 0;
      this.drop();
      this.connect();
      return;
    }
    if (!greeting && typeof event.seq === 'number') {
      if (event.seq <= this.last && data.has(event.topic)) return;
      this.last = Math.max(this.last, event.topic === 'gap' ? event.to : event.seq);
    }
    this.options.onEvent(event);
    if (event.topic === 'state' && event.state === 'ended') {
      this.enter('ended');
      this.drop();
    }
  }
}

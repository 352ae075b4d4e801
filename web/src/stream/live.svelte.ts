// One session as the page has it open: its stream, what the recorders sent, its output, and the script that runs in it. Views come
// and go; a session stays open for a while after the last one left, so that going back shows it at once.

import { Problem, explain } from '../api/client';
import type { Cause, Progress, Session } from '../api/types';
import { app } from '../app/state.svelte';
import { Follower, type FollowState } from './follow';
import type { StreamEvent } from './events';
import { Recordings } from './recordings';

const output_most = 256 * 1024;
const redraw_ms = 60;

export interface ScriptError { title: string; text: string; line: number | null; traceback: string }

export class LiveSession {
  info = $state<Session | null>(null);
  missing = $state('');           // why there is no such session
  stream = $state<FollowState>('connecting');
  tick = $state(0);               // rises when there is something new to draw
  output = $state('');
  outputCut = $state(false);
  notes = $state<string[]>([]);
  progress = $state<Progress | null>(null);
  horizon = $state(0);            // where the running simulation will end, ms; 0: nothing runs or it is unknown
  running = $state(false);        // a script of this page runs
  interrupting = $state(false);
  error = $state.raw<ScriptError | null>(null);
  values = $state.raw<unknown>(null);
  took_s = $state<number | null>(null);
  began_at = $state(0);
  keptRun = $state<string | null>(null);
  readonly recordings = new Recordings();

  private follower: Follower;
  private redraw: ReturnType<typeof setTimeout> | null = null;
  private poll: ReturnType<typeof setInterval> | null = null;
  private unstreamed = ''; // output of an answer, for the case that no stream brings it

  constructor(readonly id: string) {
    this.info = app.find(id) ?? null;
    void this.refresh();
    this.follower = new Follower({
      url: (after) => app.client.streamUrl(id, after),
      token: app.client.token,
      probe: () => this.probe(),
      onEvent: (event) => this.take(event),
      onState: (state) => this.enter(state),
      onRenumbered: () => { this.recordings.clear(); this.clearOutput(); this.draw(); },
    });
  }

  get state(): Session['state'] { return this.info?.state ?? 'starting'; }
  get busy(): boolean { return this.running || this.info?.state === 'busy'; }
  get ended(): boolean { return this.info?.state === 'ended'; }

  async refresh(): Promise<void> {
    try {
      const info = await app.client.session(this.id);
      this.info = info;
      this.progress = info.state === 'busy' ? (info.progress ?? this.progress) : null;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) this.missing = 'There is no such session any more. The list of sessions has those that run.';
      else if (error instanceof Problem && error.status !== 0 && error.status !== 401) app.fail(error);
    }
  }

  private async probe(): Promise<'unavailable' | 'ended' | 'retry'> {
    const abort = new AbortController();
    try {
      await app.client.request('GET', `/v1/sessions/${this.id}/stream`, undefined, {}, abort.signal);
      abort.abort();
      return 'retry';
    } catch (error) {
      if (!(error instanceof Problem)) return 'retry';
      if (error.status === 410) { void this.refresh(); return 'ended'; }
      if (error.status !== 404) return 'retry';
      await this.refresh();
      return this.ended || this.missing ? 'ended' : 'unavailable';
    }
  }

  private enter(state: FollowState): void {
    this.stream = state;
    if (state === 'unavailable') { this.print(this.unstreamed); this.unstreamed = ''; }
    if (state === 'unavailable' && !this.poll) {
      // Without a stream: state and progress by asking, output after each call.
      this.poll = setInterval(() => { if (this.busy) void this.refresh(); }, 1000);
    }
    if (state === 'ended') void this.refresh();
  }

  private take(event: StreamEvent): void {
    if (this.recordings.take(event)) { this.draw(); return; }
    switch (event.topic) {
      case 'stdout':
        this.print(event.text);
        break;
      case 'progress':
        if (this.horizon === 0 && event.of_ms !== undefined)
          this.horizon = Math.max(0, this.recordings.end) + event.of_ms - (event.time_ms ?? 0);
        this.progress = { done: event.done, ...(event.time_ms === undefined ? {} : { time_ms: event.time_ms }), ...(event.of_ms === undefined ? {} : { of_ms: event.of_ms }) };
        break;
      case 'state':
        this.changed(event.state, event.cause);
        break;
      case 'note':
        if (!this.notes.includes(event.text)) this.notes = [...this.notes.slice(-2), event.text];
        break;
      case 'gap': {
        const text = 'Some of what was recorded before is no longer kept by the server.';
        if (!this.notes.includes(text) && event.to > event.from && !this.recordings.empty) this.notes = [...this.notes.slice(-2), text];
        break;
      }
    }
  }

  private changed(state: string, cause?: Cause): void {
    if (state === 'reset' || state === 'rewound') {
      this.recordings.clear();
      this.draw();
      return;
    }
    if (state === 'busy' || state === 'idle' || state === 'ended') {
      if (this.info) this.info = { ...this.info, state, ...(cause ? { cause } : {}) };
      if (state !== 'busy') { this.progress = null; this.horizon = 0; }
      app.soon();
    }
  }

  private draw(): void {
    if (this.redraw) return;
    // What has become large is drawn less often, so that the page stays free.
    let total = 0;
    for (const train of this.recordings.spikes.values()) total += train.times.length;
    this.redraw = setTimeout(() => { this.redraw = null; this.tick += 1; }, total > 500_000 ? redraw_ms * 4 : redraw_ms);
  }

  print(text: string): void {
    const all = this.output + text;
    this.outputCut = this.outputCut || all.length > output_most;
    this.output = all.length > output_most ? all.slice(-output_most) : all;
  }
  clearOutput(): void { this.output = ''; this.outputCut = false; this.error = null; }

  async run(source: string, returns: string[], keep: boolean, title: string): Promise<void> {
    if (this.running) return;
    this.running = true;
    this.clearOutput();
    this.interrupting = false;
    this.error = null;
    this.values = null;
    this.took_s = null;
    this.keptRun = null;
    this.unstreamed = '';
    this.began_at = Date.now();
    // What is printed before the stream is there would not be in it.
    for (const patience = Date.now() + 2000; this.stream === 'connecting' && Date.now() < patience;) await new Promise((done) => setTimeout(done, 20));
    const began = performance.now();
    try {
      const answer = await app.client.exec(this.id, source, { return: returns, keep, ...(title ? { title } : {}) });
      this.answered(answer.stdout);
      this.values = answer.data;
      this.keptRun = answer.run;
      if (keep && !answer.run) this.notes = [...this.notes.slice(-2), 'This server does not keep runs: the values are only here.'];
    } catch (error) {
      this.fail(error);
    } finally {
      this.took_s = (performance.now() - began) / 1000;
      this.running = false;
      this.interrupting = false;
      this.progress = null;
      this.horizon = 0;
      void this.refresh();
      app.soon();
    }
  }

  // The stream brings the output, before the answer or after it; only without one is it taken from there.
  private answered(stdout: string): void {
    if (this.stream === 'unavailable' || this.stream === 'ended') this.print(stdout);
    else this.unstreamed = stdout;
  }

  private fail(error: unknown): void {
    if (error instanceof Problem) {
      this.answered(error.script.stdout ?? '');
      const interrupted = error.script.class === 'KeyboardInterrupt' || error.code === 'interrupted';
      this.error = { title: interrupted ? 'Interrupted' : (error.script.class ?? 'This did not work'),
        text: interrupted ? 'The script was stopped; what it had set is kept.' : (error.script.text ?? error.detail),
        line: error.script.line ?? null, traceback: error.script.traceback ?? '' };
      if (error.status === 410) void this.refresh();
    } else {
      this.error = { title: 'This did not work', text: explain(error), line: null, traceback: '' };
    }
  }

  /** The session is in an earlier state again: what later scripts gave is no longer its own. */
  wentBack(info: Session): void {
    this.info = info;
    this.values = null;
    this.took_s = null;
    this.keptRun = null;
    this.clearOutput();
  }

  async interrupt(): Promise<void> {
    this.interrupting = true;
    try {
      await app.client.interrupt(this.id);
    } catch (error) {
      this.interrupting = false;
      if (!(error instanceof Problem && error.status === 409)) app.fail(error);
    }
  }

  hurry(): void { this.follower.hurry(); }

  close(): void {
    this.follower.close();
    if (this.redraw) clearTimeout(this.redraw);
    if (this.poll) clearInterval(this.poll);
  }
}

const open = new Map<string, { live: LiveSession; users: number; timer: ReturnType<typeof setTimeout> | null }>();

export function acquire(id: string): LiveSession {
  let entry = open.get(id);
  if (!entry) open.set(id, (entry = { live: new LiveSession(id), users: 0, timer: null }));
  if (entry.timer) clearTimeout(entry.timer);
  entry.timer = null;
  entry.users += 1;
  return entry.live;
}

export function release(id: string): void {
  const entry = open.get(id);
  if (!entry || --entry.users > 0) return;
  const end = (): void => {
    if (entry.live.running) { entry.timer = setTimeout(end, 30_000); return; }
    entry.live.close();
    open.delete(id);
  };
  entry.timer = setTimeout(end, 30_000);
}

if (typeof window !== 'undefined') window.addEventListener('online', () => { for (const { live } of open.values()) live.hurry(); });

// What the whole page knows: who asks whom, the sessions, the engines, and short messages. One poll keeps the sessions' list fresh.

import { Client, Problem, explain } from '../api/client';
import type { Engine, Session, Status } from '../api/types';

export interface Toast { id: number; text: string; kind: 'info' | 'error'; action?: { label: string; run: () => void } }

const token_key = 'myelin-token';

class App {
  phase = $state<'entering' | 'signin' | 'ready' | 'unreachable'>('entering');
  signinError = $state('');
  status = $state<Status | null>(null);
  sessions = $state<Session[]>([]);
  loaded = $state(false);
  reachable = $state(true);
  engines = $state<Engine[]>([]);
  toasts = $state<Toast[]>([]);
  keysShown = $state(false);
  now = $state(Date.now());
  /** A session whose script runs as soon as its view is open. */
  autorun: string | null = null;

  client = new Client({ base: location.origin, token: '' });
  private timer: ReturnType<typeof setTimeout> | null = null;
  private failures = 0;
  private toastId = 0;

  async start(): Promise<void> {
    const fragment = location.hash.startsWith('#/') ? new URLSearchParams() : new URLSearchParams(location.hash.slice(1));
    const given = fragment.get('token');
    if (given !== null) history.replaceState(null, '', location.pathname + location.search + '#/');
    setInterval(() => { this.now = Date.now(); }, 1000);
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.soon(); });
    await this.enter(given ?? sessionStorage.getItem(token_key) ?? '');
  }

  async enter(token: string): Promise<void> {
    this.client = new Client({ base: location.origin, token, onUnauthorized: () => this.lost() });
    try {
      this.status = await this.client.status();
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        this.phase = 'signin';
        this.signinError = token ? 'This token is not known here. Was the server started anew with another one?' : '';
      } else {
        this.phase = 'unreachable';
        this.signinError = explain(error);
        setTimeout(() => { if (this.phase === 'unreachable') void this.enter(token); }, 2000);
      }
      return;
    }
    sessionStorage.setItem(token_key, token);
    // NEST Desktop reads its server and token from these keys of the same origin.
    localStorage.setItem('nest-backend-store', JSON.stringify({ state: { enabled: true, loadedFromAssets: true, url: location.origin } }));
    sessionStorage.setItem('nest-backend-store', JSON.stringify({ state: { accessToken: token } }));
    if (new URLSearchParams(location.search).get('next') === 'desktop') { location.replace('../desktop/#/nest'); return; }
    this.phase = 'ready';
    this.signinError = '';
    void this.loadEngines();
    void this.poll();
  }

  signOut(): void {
    sessionStorage.removeItem(token_key);
    sessionStorage.removeItem('nest-backend-store');
    location.hash = '#/';
    location.reload();
  }

  private lost(): void {
    if (this.phase !== 'ready') return;
    if (this.timer) clearTimeout(this.timer);
    sessionStorage.removeItem(token_key);
    this.phase = 'signin';
    this.signinError = 'The server no longer knows this token. Please sign in again.';
  }

  async loadEngines(): Promise<void> {
    try {
      this.engines = await this.client.engines();
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404) || !this.status) return;
      // A server without this route says less, in its status.
      this.engines = Object.entries(this.status.engines).map(([name, engine]) => ({ name, ready: engine.version !== undefined, ...engine }));
    }
  }

  engine(name: string): Engine | undefined { return this.engines.find((one) => one.name === name); }
  find(id: string): Session | undefined { return this.sessions.find((one) => one.id === id); }

  /** Names are one user's own: the second session of a name is "… 2". */
  freeName(wanted: string): string {
    const names = new Set(this.sessions.map((one) => one.name));
    let out = wanted;
    for (let i = 2; names.has(out); ++i) out = `${wanted} ${i}`;
    return out;
  }

  /** Asks again at once, e.g. after a change. */
  soon(): void {
    if (this.phase !== 'ready') return;
    if (this.timer) clearTimeout(this.timer);
    void this.poll();
  }

  private async poll(): Promise<void> {
    this.timer = null;
    try {
      const list = await this.client.sessions();
      const ids = new Set(list.map((one) => one.id));
      // One that vanished from the list is asked for by its id: the reason of its end is still known.
      for (const before of this.sessions) {
        if (ids.has(before.id)) continue;
        if (before.state === 'ended') { list.push(before); continue; }
        const ended = await this.client.session(before.id).catch(() => null);
        if (ended && ended.state === 'ended' && ended.cause?.code !== 'deleted') list.push(ended);
      }
      this.sessions = list;
      this.loaded = true;
      if (!this.reachable) { this.reachable = true; void this.loadEngines(); }
      this.failures = 0;
    } catch (error) {
      if (error instanceof Problem && error.status === 0) this.reachable = false;
      this.failures += 1;
    }
    if (this.phase !== 'ready' || this.timer) return;
    const pace = document.hidden ? 15_000 : this.sessions.some((one) => one.state === 'busy') ? 1_000 : 2_000;
    this.timer = setTimeout(() => void this.poll(), Math.min(15_000, pace * 2 ** Math.min(this.failures, 3)));
  }

  dismiss(id: string): void { this.sessions = this.sessions.filter((one) => one.id !== id); }

  async remove(session: Session): Promise<void> {
    try {
      await this.client.deleteSession(session.id);
    } catch (error) {
      if (!(error instanceof Problem && (error.status === 404 || error.status === 410))) { this.fail(error); return; }
    }
    this.dismiss(session.id);
    this.soon();
  }

  say(text: string, action?: Toast['action']): void { this.toast({ text, kind: 'info', ...(action ? { action } : {}) }, 7000); }
  fail(error: unknown): void { this.toast({ text: explain(error), kind: 'error' }, 15_000); }
  private toast(toast: Omit<Toast, 'id'>, ms: number): void {
    const id = ++this.toastId;
    this.toasts = [...this.toasts.slice(-3), { id, ...toast }];
    setTimeout(() => this.hush(id), ms);
  }
  hush(id: number): void { this.toasts = this.toasts.filter((one) => one.id !== id); }
}

export const app = new App();

// What the whole page knows: who asks whom, the sessions, the engines, and short messages. One poll keeps the sessions' list fresh.

import { Client, Problem, explain } from '../api/client';
import type { Engine, Me, Methods, Session, Status } from '../api/types';
import { parseEntry } from './entry';
import { failureText } from './failures';
import { allows, type Action } from './rights';

export interface Toast { id: number; text: string; kind: 'info' | 'error'; action?: { label: string; run: () => void } }

const token_key = 'myelin-token', said_key = 'myelin-said', back_key = 'myelin-back';
const link_over = 'This link no longer works: it was ended, or its time is over.';
const no_methods: Methods = { auth: 'token', password: false, cookie: false, providers: [] };

class App {
  phase = $state<'entering' | 'signin' | 'must-change' | 'reset' | 'ready' | 'unreachable'>('entering');
  signinError = $state('');
  signinNote = $state('');
  methods = $state<Methods>(no_methods);
  me = $state<Me | null>(null);
  /** Of a link to set a password with. */
  reset = '';
  /** The password that was just typed, for whoever has to choose another one now. */
  typed = '';
  private byLink = false; // to one session or run
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
  private polls = 0;
  private toastId = 0;

  async start(): Promise<void> {
    const entry = parseEntry(location.hash);
    if (entry) history.replaceState(null, '', location.pathname + location.search + '#' + entry.path);
    setInterval(() => { this.now = Date.now(); }, 1000);
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.soon(); });
    this.signinError = sessionStorage.getItem(said_key) ?? '';
    const query = new URLSearchParams(location.search), failure = query.get('signin');
    if (failure) {
      this.signinError = failureText(failure);
      query.delete('signin');
      history.replaceState(null, '', location.pathname + (query.toString() && `?${query}`) + location.hash);
    } else if (!location.hash && !location.search) {
      this.comeBack();
    }
    sessionStorage.removeItem(said_key);
    if (entry?.reset) {
      this.reset = entry.reset;
      this.phase = 'reset';
      return;
    }
    this.byLink = !!entry?.token && entry.path !== '/';
    await this.enter(entry?.token ?? sessionStorage.getItem(token_key) ?? '', true);
  }

  /** By a token; without one by the cookie, if there is one. */
  async enter(token: string, atStart = false): Promise<void> {
    this.client = new Client({ base: location.origin, token, onUnauthorized: () => this.lost(), onMustChange: () => this.mustChange() });
    try {
      this.me = await this.client.me();
      if (this.me.must_change_password) { this.keep(token); this.phase = 'must-change'; return; }
      this.status = await this.client.status();
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        this.client = new Client({ base: location.origin, token: '' }); // what is public needs none
        this.methods = await this.client.methods().catch(() => no_methods);
        if (token || !atStart) this.signinError = this.byLink ? link_over : token ? 'This token is not known here. Was the server started anew with another one?' : 'The browser has not kept the sign-in. Does it refuse cookies of this page?';
        this.byLink = false;
        sessionStorage.removeItem(token_key);
        this.phase = 'signin';
      } else {
        this.phase = 'unreachable';
        this.signinError = explain(error);
        setTimeout(() => { if (this.phase === 'unreachable') { this.signinError = ''; void this.enter(token, atStart); } }, 2000);
      }
      return;
    }
    this.typed = '';
    this.keep(token);
    if (new URLSearchParams(location.search).get('next') === 'desktop' && this.may('use', 'session')) { location.replace('../desktop/#/nest'); return; }
    this.phase = 'ready';
    this.signinError = this.signinNote = '';
    void this.loadEngines();
    void this.poll();
  }

  /** A token stays in this tab. NEST Desktop reads its server and token from these keys of the same origin; it gets one by a cookie itself. */
  private keep(token: string): void {
    localStorage.setItem('nest-backend-store', JSON.stringify({ state: { enabled: true, loadedFromAssets: true, url: location.origin } }));
    if (token || this.me?.id === 'local') {
      sessionStorage.setItem(token_key, token);
      sessionStorage.setItem('nest-backend-store', JSON.stringify({ state: { accessToken: token } }));
    } else {
      sessionStorage.removeItem(token_key);
      sessionStorage.removeItem('nest-backend-store');
    }
  }

  async signIn(username: string, password: string): Promise<void> {
    const client = new Client({ base: location.origin, token: '' });
    await client.signIn(username, password);
    this.typed = password;
    this.signinError = '';
    await this.enter('');
  }

  /** To another service, to sign in: what was to be seen here is remembered. */
  goAway(): void { sessionStorage.setItem(back_key, location.search + location.hash); }
  private comeBack(): void {
    const back = sessionStorage.getItem(back_key);
    sessionStorage.removeItem(back_key);
    if (!back) return;
    history.replaceState(null, '', location.pathname + back);
    window.dispatchEvent(new HashChangeEvent('hashchange'));
  }

  /** To the form, e.g. after a password was set by a link. */
  async toSignIn(note: string): Promise<void> {
    this.methods = await this.client.methods().catch(() => no_methods);
    this.signinNote = note;
    this.signinError = '';
    this.reset = '';
    this.phase = 'signin';
  }

  /** Everything that the page knows goes with the reload. */
  private leave(said: string): void {
    sessionStorage.removeItem(token_key);
    sessionStorage.removeItem('nest-backend-store');
    if (said) sessionStorage.setItem(said_key, said);
    location.reload();
  }

  async signOut(): Promise<void> {
    if (this.me?.sign_in === 'cookie') {
      try {
        await this.client.signOut();
      } catch (error) {
        if (!(error instanceof Problem && error.status === 401)) { this.fail(error); return; }
      }
    }
    location.hash = '#/';
    this.leave('');
  }

  private lost(): void {
    if (this.phase !== 'ready' && this.phase !== 'must-change') return;
    if (this.timer) clearTimeout(this.timer);
    this.phase = 'entering';
    this.leave(this.visiting ? link_over : this.client.token ? 'The server no longer knows this token. Please sign in again.' : 'This sign-in has ended. Please sign in again.');
  }

  private mustChange(): void {
    if (this.phase !== 'ready') return;
    if (this.timer) clearTimeout(this.timer);
    this.phase = 'must-change';
  }

  /** May who is here do this? `owner` is the name of the one whose it is; without one it is theirs, or any of theirs. */
  may(action: Action, kind: string, object = '*', owner?: string): boolean {
    return allows(this.me, action, kind, object, owner === undefined || owner === this.me?.username);
  }

  /** Here by a token that lets one look at little, e.g. by a link to one session. */
  get visiting(): boolean { return !!this.me?.scopes && !this.may('view', 'session'); }

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
      this.polls += 1;
      const all = this.may('view', 'session');
      // Whoever may see single sessions only has no list of them.
      if (!all || this.polls % 5 === 0) this.me = await this.client.me();
      const list = all ? await this.client.sessions() : [];
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
    const pace = document.hidden ? 15_000 : 1_000; // so that an ended sign-in is seen soon
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

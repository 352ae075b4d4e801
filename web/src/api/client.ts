// Every request of the page. Errors are `Problem`s: what the server said (problem+json), or in the same shape that it could not be
// reached. Who asks is told by a token, which lives in this tab's sessionStorage only (NEST Desktop reads it there too), or without one
// by the cookie of a sign-in, which no script can read.

import { decodeCbor } from './cbor';
import type {
  Answer, AuditEntry, BrokenPackage, Checked, Checkpoint, Comparison, Engine, Entry, Func, FunctionAnswer, Granted, Group, Me, Methods, Package, Role, Run, Session, Status,
  SweepResult, SweepWanted, Terms, Token, User,
} from './types';

export class Problem extends Error {
  override readonly name = 'Problem';
  constructor(
    readonly status: number, // 0: no answer at all
    readonly code: string,
    readonly detail: string,
    readonly script: { class?: string; text?: string; line?: number; file?: string; stdout?: string; traceback?: string } = {},
    readonly retryAfter: number | null = null, // s
    readonly fields: { field: string; message: string }[] = [], // what is wrong with single parameters
  ) {
    super(detail);
  }
  /** The route itself is not there: an older server. */
  get missing(): boolean { return this.status === 404 && this.detail.includes('route'); }
}

/** The server's words begin small and end without a stop. */
export function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : whole + '.';
}

/** What to say to a person about any error. */
export function explain(error: unknown): string {
  if (error instanceof Problem) {
    if (error.script.class) return error.script.text ? `${error.script.class}: ${error.script.text}` : error.script.class;
    return error.detail;
  }
  return error instanceof Error ? error.message : String(error);
}

export interface ClientOptions { base: string; token: string; fetch?: typeof fetch; onUnauthorized?: () => void; onMustChange?: () => void }
export interface ExecOptions { return?: string[]; fresh?: boolean; keep?: boolean; title?: string; signal?: AbortSignal }
export interface AuditFilter { actor?: string; action?: string; object?: string; before?: number; limit?: number }
export interface RunFilter { engine?: string; state?: string; session?: string; title?: string; since?: string; until?: string; after?: string; limit?: number }

async function problemOf(response: Response): Promise<Problem> {
  let body: Record<string, unknown> = {};
  const text = await response.text().catch(() => '');
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed && typeof parsed === 'object') body = parsed as Record<string, unknown>;
  } catch { /* a proxy's page, perhaps */ }
  const say = (key: string): string | undefined => (typeof body[key] === 'string' ? (body[key] as string) : undefined);
  const line = typeof body.line === 'number' ? body.line : undefined;
  return new Problem(response.status, say('code') ?? 'http_' + response.status,
    say('detail') ?? say('message') ?? say('title') ?? `The server answered ${response.status} ${response.statusText}.`,
    { class: say('class'), text: say('text'), line, file: say('file'), stdout: say('stdout'), traceback: say('traceback') }, retry(response), fieldsOf(body.errors));
}

function fieldsOf(errors: unknown): { field: string; message: string }[] {
  if (!Array.isArray(errors)) return [];
  return errors.flatMap((one: unknown) => {
    const { field, message } = (one ?? {}) as Record<string, unknown>;
    return typeof field === 'string' && typeof message === 'string' ? [{ field, message }] : [];
  });
}

function retry(response: Response): number | null {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

function queryOf(values: object): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== undefined && value !== '') query.set(key, String(value));
  const text = query.toString();
  return text ? '?' + text : '';
}

const pathOf = (path: string): string => path.split('/').map(encodeURIComponent).join('/');

export class Client {
  constructor(private readonly options: ClientOptions) {}

  get token(): string { return this.options.token; }
  get base(): string { return this.options.base; }

  async request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}, signal?: AbortSignal): Promise<Response> {
    const all: Record<string, string> = { ...headers };
    if (this.options.token) all.Authorization = `Bearer ${this.options.token}`;
    const bytes = body instanceof Blob;
    if (body !== undefined && !bytes) all['Content-Type'] = 'application/json';
    let response: Response;
    try {
      response = await (this.options.fetch ?? fetch)(this.options.base + path,
        { method, headers: all, body: body === undefined ? null : bytes ? body : JSON.stringify(body), cache: 'no-store', credentials: 'same-origin', signal: signal ?? null });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, 'unreachable', 'The server does not answer. Is it still running? The page goes on by itself when it is back.');
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    // A wrong password is no end of the sign-in.
    if (problem.status === 401 && !path.startsWith('/v1/auth/')) this.options.onUnauthorized?.();
    if (problem.code === 'password_change_required') this.options.onMustChange?.();
    throw problem;
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.request(method, path, body);
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  /** Numbers come as CBOR where the server has it: exact, and arrays as typed arrays. */
  private async numbers(response: Response): Promise<unknown> {
    if ((response.headers.get('Content-Type') ?? '').startsWith('application/cbor')) return decodeCbor(new Uint8Array(await response.arrayBuffer()));
    return response.json();
  }

  status(): Promise<Status> { return this.json('GET', '/v1/status'); }

  async engines(): Promise<Engine[]> { return (await this.json<{ engines: Engine[] }>('GET', '/v1/engines')).engines; }

  async sessions(): Promise<Session[]> { return (await this.json<{ sessions: Session[] }>('GET', '/v1/sessions')).sessions; }
  session(id: string): Promise<Session> { return this.json('GET', `/v1/sessions/${id}`); }
  createSession(engine: string, name?: string): Promise<Session> { return this.json('POST', '/v1/sessions', name ? { engine, name } : { engine }); }
  deleteSession(id: string): Promise<void> { return this.json('DELETE', `/v1/sessions/${id}`); }
  interrupt(id: string): Promise<void> { return this.json('POST', `/v1/sessions/${id}/interrupt`); }
  async output(id: string): Promise<string> { return (await this.request('GET', `/v1/sessions/${id}/output`)).text(); }

  async exec(id: string, source: string, options: ExecOptions = {}): Promise<Answer> {
    const body: Record<string, unknown> = { source };
    if (options.return?.length) body.return = options.return;
    if (options.fresh) body.fresh = true;
    if (options.keep) { body.keep = true; if (options.title) body.title = options.title; }
    const response = await this.request('POST', `/v1/sessions/${id}/exec`, body,
      { Accept: 'application/cbor, application/json;q=0.9' }, options.signal);
    const answer = (await this.numbers(response)) as { data?: unknown; stdout?: string };
    return { data: answer.data ?? null, stdout: answer.stdout ?? '', run: response.headers.get('Myelin-Run') };
  }

  branch(id: string, count = 1, names?: string[]): Promise<{ sessions: Session[]; evicted?: Checkpoint[] }> {
    return this.json('POST', `/v1/sessions/${id}/branch`, names ? { count, names } : { count });
  }
  async checkpoints(id: string): Promise<Checkpoint[]> {
    return (await this.json<{ checkpoints: Checkpoint[] }>('GET', `/v1/sessions/${id}/checkpoints`)).checkpoints;
  }
  checkpoint(id: string, name?: string): Promise<Checkpoint & { evicted?: Checkpoint[] }> {
    return this.json('POST', `/v1/sessions/${id}/checkpoints`, name ? { name } : {});
  }
  deleteCheckpoint(id: string, checkpoint: string): Promise<void> { return this.json('DELETE', `/v1/sessions/${id}/checkpoints/${checkpoint}`); }
  rewind(id: string, checkpoint: string): Promise<Session> { return this.json('POST', `/v1/sessions/${id}/rewind`, { checkpoint }); }

  runs(filter: RunFilter = {}): Promise<{ runs: Run[]; next: string | null }> {
    return this.json('GET', '/v1/runs' + queryOf(filter));
  }
  run(id: string): Promise<Run> { return this.json('GET', `/v1/runs/${id}`); }
  job(id: string): Promise<Run> { return this.json('GET', `/v1/jobs/${id}`); }
  cancelJob(id: string): Promise<void> { return this.json('POST', `/v1/jobs/${id}/cancel`); }
  deleteRun(id: string): Promise<void> { return this.json('DELETE', `/v1/runs/${id}`); }
  rerun(id: string): Promise<Run> { return this.json('POST', `/v1/runs/${id}/rerun`, {}); }
  compareRuns(a: string, b: string): Promise<Comparison> { return this.json('GET', `/v1/runs/compare?a=${a}&b=${b}`); }
  async dataset(id: string, name: string): Promise<unknown> {
    return this.numbers(await this.request('GET', `/v1/runs/${id}/datasets/${encodeURIComponent(name)}?format=cbor`));
  }
  async exportRun(id: string, format: string): Promise<Blob> {
    return (await this.request('GET', `/v1/runs/${id}/export?format=${format}`)).blob();
  }

  functions(): Promise<{ functions: Func[]; errors: BrokenPackage[] }> { return this.json('GET', '/v1/functions'); }
  function(name: string, version?: string): Promise<Func> { return this.json('GET', `/v1/functions/${encodeURIComponent(name)}` + queryOf({ version })); }
  /** `path`: of a function, or of the trial of a draft's. */
  async call(path: string, parameters: Record<string, unknown>, terms: Terms = {}, signal?: AbortSignal): Promise<FunctionAnswer> {
    const response = await this.request('POST', path, { parameters, ...terms },
      { Accept: 'application/cbor, application/json;q=0.9', Prefer: 'cancel-on-disconnect' }, signal);
    const answer = (await this.numbers(response)) as { data?: unknown; stdout?: string };
    const cache = response.headers.get('Myelin-Cache');
    return { data: answer.data ?? null, stdout: answer.stdout ?? '', run: response.headers.get('Myelin-Run'), cache: cache === 'hit' || cache === 'miss' ? cache : null,
      ran: response.headers.get('Myelin-Function') };
  }
  async callAs(path: string, accept: string, parameters: Record<string, unknown>, terms: Terms): Promise<Blob> {
    return (await this.request('POST', path, { parameters, ...terms }, { Accept: accept })).blob();
  }

  async packages(): Promise<Package[]> { return (await this.json<{ packages: Package[] }>('GET', '/v1/packages')).packages; }
  package(name: string): Promise<Package> { return this.json('GET', `/v1/packages/${name}`); }
  async packageFile(name: string, path: string): Promise<string> { return (await this.request('GET', `/v1/packages/${name}/files/${pathOf(path)}`)).text(); }
  async putPackageFile(name: string, path: string, content: Blob): Promise<void> {
    await this.request('PUT', `/v1/packages/${name}/files/${pathOf(path)}`, content, { 'Content-Type': 'application/octet-stream' });
  }
  deletePackageFile(name: string, path: string): Promise<void> { return this.json('DELETE', `/v1/packages/${name}/files/${pathOf(path)}`); }
  checkPackage(name: string): Promise<Checked> { return this.json('POST', `/v1/packages/${name}/check`, {}); }
  publishPackage(name: string, to: string): Promise<{ version: number; to: string; functions: string[] }> { return this.json('POST', `/v1/packages/${name}/publish`, { to }); }
  restorePackage(name: string, version: number): Promise<Package> { return this.json('POST', `/v1/packages/${name}/restore`, { version }); }
  withdrawPackage(name: string): Promise<void> { return this.json('DELETE', `/v1/packages/${name}`); }
  deletePackage(name: string): Promise<void> { return this.json('DELETE', `/v1/packages/${name}?files`); }

  startSweep(wanted: SweepWanted): Promise<Run> { return this.json('POST', '/v1/sweeps', wanted); }
  sweep(id: string): Promise<{ id: string; state: Run['state']; points: number; done?: number; failed?: number }> { return this.json('GET', `/v1/sweeps/${id}`); }
  async sweepResult(id: string): Promise<SweepResult> {
    const answer = (await this.numbers(await this.request('GET', `/v1/sweeps/${id}/result`, undefined, { Accept: 'application/cbor, application/json;q=0.9' }))) as { data: SweepResult };
    return answer.data;
  }
  async files(path = ''): Promise<Entry[]> { return (await this.json<{ entries: Entry[] }>('GET', `/v1/files/${pathOf(path)}`)).entries; }

  streamUrl(id: string, after: number | null, topics?: string): string {
    const query = new URLSearchParams({ format: 'cbor' });
    if (after !== null) query.set('after', String(after));
    if (topics) query.set('topics', topics);
    return `${this.options.base.replace(/^http/, 'ws')}/v1/sessions/${id}/stream?${query}`;
  }

  methods(): Promise<Methods> { return this.json('GET', '/v1/auth/methods'); }
  signIn(username: string, password: string): Promise<{ user: Me }> { return this.json('POST', '/v1/auth/sign-in', { username, password, cookie: true, client: 'page' }); }
  signOut(): Promise<void> { return this.json('POST', '/v1/auth/sign-out', {}); }
  changePassword(old: string, fresh: string): Promise<void> { return this.json('POST', '/v1/auth/password', { old, new: fresh }); }
  useReset(reset: string, fresh: string): Promise<void> { return this.json('POST', '/v1/auth/reset', { reset, new: fresh }); }
  me(): Promise<Me> { return this.json('GET', '/v1/me'); }
  changeEmail(email: string): Promise<Me> { return this.json('PATCH', '/v1/me', { email }); }

  async tokens(): Promise<Token[]> { return (await this.json<{ tokens: Token[] }>('GET', '/v1/tokens')).tokens; }
  createToken(wanted: { name: string; user?: string; scopes?: string[]; expires_in_s?: number }): Promise<{ id: string; name: string; token: string }> {
    return this.json('POST', '/v1/tokens', wanted);
  }
  revokeToken(id: string): Promise<void> { return this.json('DELETE', `/v1/tokens/${encodeURIComponent(id)}`); }

  async users(containing = '', offset = 0, limit = 100): Promise<User[]> {
    return (await this.json<{ users: User[] }>('GET', '/v1/users' + queryOf({ containing, offset, limit }))).users;
  }
  createUser(wanted: { username: string; email?: string; role: Role }): Promise<User> { return this.json('POST', '/v1/users', wanted); }
  changeUser(id: string, change: { username?: string; email?: string; role?: Role; active?: boolean }): Promise<User> { return this.json('PATCH', `/v1/users/${id}`, change); }
  deleteUser(id: string, to?: string): Promise<void> { return this.json('DELETE', `/v1/users/${id}` + queryOf({ to })); }
  resetLink(id: string): Promise<{ link: string; expires_in: number }> { return this.json('POST', `/v1/users/${id}/reset`, {}); }

  async groups(): Promise<Group[]> { return (await this.json<{ groups: Group[] }>('GET', '/v1/groups')).groups; }
  createGroup(name: string): Promise<Group> { return this.json('POST', '/v1/groups', { name }); }
  deleteGroup(id: string): Promise<void> { return this.json('DELETE', `/v1/groups/${id}`); }
  addMember(group: string, user: string): Promise<void> { return this.json('PUT', `/v1/groups/${group}/members/${encodeURIComponent(user)}`); }
  removeMember(group: string, user: string): Promise<void> { return this.json('DELETE', `/v1/groups/${group}/members/${encodeURIComponent(user)}`); }
  async grants(): Promise<Granted[]> { return (await this.json<{ grants: Granted[] }>('GET', '/v1/grants')).grants; }
  createGrant(wanted: { grant: string; user?: string; group?: string }): Promise<{ id: string; grant: string }> { return this.json('POST', '/v1/grants', wanted); }
  deleteGrant(id: string): Promise<void> { return this.json('DELETE', `/v1/grants/${id}`); }
  async audit(filter: AuditFilter = {}): Promise<AuditEntry[]> {
    return (await this.json<{ entries: AuditEntry[] }>('GET', '/v1/audit' + queryOf(filter))).entries;
  }
}

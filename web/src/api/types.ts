// The documents of the native API, as spec/native-api.md says them. Members that an older server may lack are optional.

export type SessionState = 'starting' | 'idle' | 'busy' | 'ended';

export interface Progress { done?: number; time_ms?: number; of_ms?: number; interruptible?: boolean; note?: string }
export interface Cause { code: string; text: string; output?: string; at?: string }

export interface Session {
  id: string; name: string; engine: string; user?: string; state: SessionState; queued?: number; memory_bytes?: number;
  created_at?: string; last_used_at?: string; parent?: string | null; call_s?: number; progress?: Progress; cause?: Cause;
}

export interface Checkpoint { id: string; name: string | null; session: string; created_at: string; memory_bytes?: number }

export interface Engine {
  name: string; version?: string; versions?: Record<string, string>; ready: boolean; import_ms?: number;
  branches?: boolean | null; saves?: boolean; why_not?: string | null; python?: string; preload?: string[]; added?: boolean;
}

export interface Status {
  version: string; user: string; operator?: boolean; auth: string; isolation: string; uptime_s: number; exec?: boolean; desktop?: boolean;
  engines: Record<string, { version?: string; versions?: Record<string, string>; import_ms?: number }>;
}

export interface Dataset { name: string; dtype: string; shape: number[]; dims?: string[]; coordinates?: string[]; unit?: string | null; bytes: number; sha256?: string }
export type RunState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled' | 'lost';

export interface Comparison {
  identical: boolean; differs: string[];
  datasets: { name: string; identical: boolean; first_difference?: number | null; max_abs_difference?: number | null;
    a?: { shape: number[]; dtype: string }; b?: { shape: number[]; dtype: string } }[];
}

export interface Run {
  id: string; title?: string | null; user?: string; session?: string; engine: string; kind: 'exec' | 'call' | 'rerun' | 'function' | 'sweep'; state: RunState;
  source?: string; function?: string; arguments?: unknown; history?: number; parent_session?: string | null; inputs?: (string | { file: string; sha256: string })[];
  versions?: Record<string, string>; machine?: Record<string, unknown>; seeds?: Record<string, unknown>;
  created_at: string; started_at?: string; ended_at?: string; expires_at?: string | null; progress?: Progress;
  error?: { title?: string; detail?: string; line?: number }; stdout?: string; bytes?: number; datasets?: Dataset[]; comparison?: Comparison;
}

export interface Answer { data: unknown; stdout: string; run: string | null }

export type Role = 'anonymous' | 'guest' | 'member' | 'admin';

export interface Provider { name: string; title?: string }
export interface Methods { auth: string; password: boolean; cookie: boolean; providers: Provider[] }

export interface Me {
  id: string; username: string; email: string | null; role: Role; groups: string[]; grants: string[]; scopes: string[] | null;
  must_change_password: boolean; has_password: boolean; sign_in?: 'cookie' | 'token' | 'access_token';
}

export interface User {
  id: string; username: string; email: string | null; role: Role; active: boolean; created_at: string; last_sign_in_at: string | null;
  must_change_password: boolean; has_password: boolean; groups: string[];
}
export interface Group { id: string; name: string; members: { id: string; username: string }[] }
export interface Granted { id: string; grant: string; user?: string; group?: string; created_at: string }
export interface Token {
  id: string; name: string; user: string; created_at: string; last_used_at: string | null; expires_at: string | null; scopes: string[] | null;
}
export interface AuditEntry {
  seq: number; at: string; actor: string; actor_name: string; address: string; action: string; object: string; detail: string;
}

export type Kind = 'any' | 'boolean' | 'integer' | 'number' | 'text' | 'choice' | 'list' | 'array' | 'object' | 'null' | 'file' | 'session' | 'run';
export interface ValueType { kind: Kind; nullable?: boolean; minimum?: number; maximum?: number; choices?: unknown[]; items?: ValueType; length?: number }
export interface Parameter extends ValueType { name: string; required: boolean; default?: unknown; title?: string; unit?: string; help?: string; dims?: string[] }
export interface DeclaredPlot { kind: 'line' | 'dots' | 'picture'; title?: string; x?: string; y?: string[]; name?: string }
/** What a function says of itself. `line`: of a draft, where it is defined. */
export interface Declaration {
  name: string; title: string; description: string; engine: string; signature: string; deterministic: boolean; public: boolean; typed: boolean; variadic: boolean;
  parameters: Parameter[]; results: Record<string, { unit?: string; dims?: string[]; help?: string }>; plots: DeclaredPlot[];
  limits: { seconds?: number; memory_bytes?: number }; line?: number;
}
export interface Func extends Declaration { id: string; package: string; version: string; owner: string; visibility: string }
export interface BrokenPackage { package: string; text: string; file: string | null; line: number | null }
export interface FunctionAnswer extends Answer { cache: 'hit' | 'miss' | null; ran: string | null }
/** How a call is to be made, beside its parameters. */
export interface Terms { keep?: boolean; title?: string; seed?: number }

export interface PackageVersion { version: number; to: string; created_at: string; withdrawn_at: string | null }
export interface Package {
  name: string; files: { path: string; bytes: number; modified_at: string }[]; versions: PackageVersion[]; published: { version: number; to: string } | null;
}
export interface Checked { package: string; ok: boolean; engine: string; hash: string; functions: Declaration[]; errors: { file: string | null; line: number | null; text: string }[] }

export interface SweepWanted { function: string; parameters: Record<string, unknown>; grid: Record<string, unknown[]>; title?: string; keep?: boolean; seed?: number }
export interface SweepResult {
  axes?: Record<string, unknown>; points: number; done: number; failed: number; results: unknown;
  errors: { point: number; parameters: Record<string, unknown>; code: string; detail: string }[];
}
export interface Entry { name: string; type: 'file' | 'directory' | 'link'; bytes?: number }

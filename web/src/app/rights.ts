// What who is here may do, told as the server decides it: to show what can be pressed. The server decides again with each request.

import type { Me } from '../api/types';

export type Action = 'view' | 'use' | 'edit';
export interface Grant { action: Action; kind: string; object: string }

export const actions: readonly Action[] = ['view', 'use', 'edit'];
export const kinds = ['session', 'run', 'function', 'file', 'token', 'user', 'group', 'audit', 'server'] as const;

// What has owners; the rest is nobody's own.
const owned = ['session', 'run', 'function', 'file', 'token'];

const help = 'Write ACTION:KIND:ID, as “view:session:s_12” or “use:function:*”.';

/** A grant, or what is wrong with the text. */
export function parseGrant(text: string): Grant | string {
  const [action = '', kind = '', ...rest] = text.split(':');
  const object = rest.length ? rest.join(':') : '*';
  if (!actions.includes(action as Action)) return `${help} The first word is view, use or edit.`;
  if (kind !== '*' && !(kinds as readonly string[]).includes(kind)) return `${help} The second word is ${kinds.join(', ')} or *.`;
  if (object === '') return `${help} The id is missing; * is for all.`;
  if (kind === '*' && object !== '*') return `${help} All kinds (*) have no single id.`;
  return { action: action as Action, kind, object };
}

export function covers(text: string, action: Action, kind: string, object: string): boolean {
  const grant = parseGrant(text);
  return typeof grant !== 'string' && actions.indexOf(grant.action) >= actions.indexOf(action)
    && (grant.kind === '*' || grant.kind === kind) && (grant.object === '*' || grant.object === object);
}

/** May `me` do this with this object (`*`: with any), which is their own or not? */
export function allows(me: Me | null, action: Action, kind: string, object: string, own: boolean): boolean {
  if (!me || me.must_change_password) return false;
  if (me.scopes && !me.scopes.some((one) => covers(one, action, kind, object))) return false;
  if (me.role === 'admin' || (me.role === 'member' && own && owned.includes(kind))) return true;
  return me.grants.some((one) => covers(one, action, kind, object));
}

const verbs: Record<Action, string> = { view: 'see', use: 'see and use', edit: 'see, use, change and delete' };

/** The grant in words; what is wrong with it, if it is none. */
export function sayGrant(text: string): string {
  const grant = parseGrant(text);
  if (typeof grant === 'string') return grant;
  const verb = verbs[grant.action];
  if (grant.kind === '*') return `${verb} everything`;
  if (grant.kind === 'audit') return `${verb} the audit log`;
  if (grant.kind === 'server') return `${verb} the server`;
  return grant.object === '*' ? `${verb} all ${grant.kind}s` : `${verb} the ${grant.kind} ${grant.object}`;
}

/** What scopes or grants let one open by name: the sessions and runs that somebody shared. */
export function shared(texts: readonly string[]): { kind: 'session' | 'run'; id: string; action: Action }[] {
  const out: { kind: 'session' | 'run'; id: string; action: Action }[] = [];
  for (const text of texts) {
    const grant = parseGrant(text);
    if (typeof grant === 'string' || grant.object === '*' || (grant.kind !== 'session' && grant.kind !== 'run')) continue;
    if (!out.some((one) => one.kind === grant.kind && one.id === grant.object)) out.push({ kind: grant.kind, id: grant.object, action: grant.action });
  }
  return out;
}

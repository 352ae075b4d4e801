import { expect, test } from 'vitest';
import type { Me } from '../src/api/types';
import { linkTo, parseEntry } from '../src/app/entry';
import { allows, covers, parseGrant, sayGrant, shared } from '../src/app/rights';

const me = (change: Partial<Me> = {}): Me => ({ id: 'u_1', username: 'anna', email: null, role: 'member', groups: [], grants: [], scopes: null,
  must_change_password: false, has_password: true, ...change });

test('a grant has an action, a kind and an id', () => {
  expect(parseGrant('view:session:s_12')).toEqual({ action: 'view', kind: 'session', object: 's_12' });
  expect(parseGrant('use:function')).toEqual({ action: 'use', kind: 'function', object: '*' });
  expect(parseGrant('edit:file:a:b')).toEqual({ action: 'edit', kind: 'file', object: 'a:b' });
  for (const [text, word] of [['look:session:*', 'view, use or edit'], ['view:cell:*', 'session, run'], ['view:session:', 'missing'], ['view:*:x', 'no single id'], ['', 'view, use']])
    expect(parseGrant(text!)).toContain(word);
});

test('an action includes those before it', () => {
  expect(covers('edit:session:s_1', 'view', 'session', 's_1')).toBe(true);
  expect(covers('view:session:s_1', 'use', 'session', 's_1')).toBe(false);
  expect(covers('view:session:s_1', 'view', 'session', '*')).toBe(false);
  expect(covers('use:*:*', 'view', 'run', 'r_1')).toBe(true);
  expect(covers('nonsense', 'view', 'run', 'r_1')).toBe(false);
});

test('who may do what', () => {
  expect(allows(me(), 'edit', 'session', 's_1', true)).toBe(true);
  expect(allows(me(), 'view', 'session', 's_1', false)).toBe(false);
  expect(allows(me(), 'view', 'user', '*', true)).toBe(false); // nobody's own
  expect(allows(me({ grants: ['view:user'] }), 'view', 'user', '*', true)).toBe(true);
  expect(allows(me({ role: 'guest' }), 'view', 'session', 's_1', true)).toBe(false);
  expect(allows(me({ role: 'guest', grants: ['use:session:s_1'] }), 'view', 'session', 's_1', false)).toBe(true);
  expect(allows(me({ role: 'admin' }), 'edit', 'user', '*', false)).toBe(true);
  expect(allows(me({ role: 'admin', scopes: ['view:session:s_1'] }), 'use', 'session', 's_1', true)).toBe(false);
  expect(allows(me({ scopes: ['view:session:s_1'] }), 'view', 'session', 's_1', true)).toBe(true);
  expect(allows(me({ role: 'admin', must_change_password: true }), 'view', 'session', 's_1', true)).toBe(false);
  expect(allows(null, 'view', 'session', 's_1', true)).toBe(false);
});

test('grants in words, and what they let one open', () => {
  expect(sayGrant('view:session:s_12')).toBe('see the session s_12');
  expect(sayGrant('use:run:*')).toBe('see and use all runs');
  expect(sayGrant('edit:*:*')).toBe('see, use, change and delete everything');
  expect(sayGrant('view:audit:*')).toBe('see the audit log');
  expect(shared(['view:session:s_1', 'use:session:*', 'view:run:r_1', 'view:session:s_1', 'view:user:u_1'])).toEqual([
    { kind: 'session', id: 's_1', action: 'view' }, { kind: 'run', id: 'r_1', action: 'view' }]);
});

test('links carry their secrets in the fragment', () => {
  expect(parseEntry('#/session/s_1')).toBeNull();
  expect(parseEntry('')).toBeNull();
  expect(parseEntry('#token=abc')).toEqual({ token: 'abc', reset: null, path: '/' });
  expect(parseEntry('#token=')).toEqual({ token: '', reset: null, path: '/' });
  expect(parseEntry('#reset=def')).toEqual({ token: null, reset: 'def', path: '/' });
  const link = linkTo('https://lab.example/myelin/app/', 'abc', 'run', 'r_7');
  expect(link).toBe('https://lab.example/myelin/app/#token=abc&open=run/r_7');
  expect(parseEntry(new URL(link).hash)).toEqual({ token: 'abc', reset: null, path: '/runs/r_7' });
  for (const bad of ['https://else.example', 'session/../x', 'session/a/b', 'users', 'javascript:x']) expect(parseEntry('#token=a&open=' + bad)!.path).toBe('/');
});

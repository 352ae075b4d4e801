import { afterEach, beforeEach, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { Follower, type FollowState, type Socket } from '../src/stream/follow';
import type { StreamEvent } from '../src/stream/events';
import { FakeServer } from './fake-server';

let server: FakeServer;
let follower: Follower | undefined;
let events: StreamEvent[] = [];
let states: FollowState[] = [];
let renumbered = 0;

function follow(probe: () => Promise<'unavailable' | 'ended' | 'retry'> = () => Promise.resolve('retry')): void {
  follower = new Follower({
    url: (after) => `${server.base.replace('http', 'ws')}/v1/sessions/s_1/stream?after=${after}`, token: 'T', probe, firstDelayMs: 5, longestDelayMs: 20,
    onEvent: (event) => events.push(event), onState: (state) => states.push(state), onRenumbered: () => { renumbered += 1; },
    open: (url, protocols) => {
      const socket = new WebSocket(url, protocols);
      socket.on('error', () => { /* the close that follows is what counts */ });
      return socket as unknown as Socket;
    },
  });
}
async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited in vain: ' + JSON.stringify({ events, states }));
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}
const texts = (): string[] => events.flatMap((event) => (event.topic === 'stdout' ? [event.text] : []));

beforeEach(async () => { server = new FakeServer(); await server.start(); events = []; states = []; renumbered = 0; });
afterEach(async () => { follower?.close(); await server.stop(); });

test('the token goes with the protocols, events come in order', async () => {
  follow();
  await until(() => states.includes('live'));
  for (const text of ['a', 'b', 'c']) server.push({ topic: 'stdout', text });
  await until(() => texts().length === 3);
  expect(texts()).toEqual(['a', 'b', 'c']);
  expect(server.followed[0]!.protocols.replace(/\s/g, '')).toBe('myelin,token.T');
});

test('after a cut it goes on where it was: nothing twice, nothing missed', async () => {
  follow();
  server.push({ topic: 'stdout', text: '1' });
  await until(() => texts().length === 1);
  server.drop();
  server.push({ topic: 'stdout', text: '2' });
  server.push({ topic: 'stdout', text: '3' });
  await until(() => texts().length === 3);
  server.drop();
  server.push({ topic: 'stdout', text: '4' });
  await until(() => texts().length === 4);
  expect(texts()).toEqual(['1', '2', '3', '4']);
  expect(server.followed.map(({ url }) => url.split('after=')[1])).toEqual(['0', '1', '3']);
  expect(states).toEqual(['live', 'reconnecting', 'live', 'reconnecting', 'live']);
});

test('the greeting of a connection, with a number ahead of what follows, hides nothing', async () => {
  server.push({ topic: 'stdout', text: 'before' });
  server.push({ topic: 'stdout', text: 'too' });
  follow();
  await until(() => texts().length === 2);
  expect(events[0]).toMatchObject({ topic: 'state', state: 'idle', seq: 2 });
  expect(texts()).toEqual(['before', 'too']);
});

test('a server without the route is found out, and not asked again', async () => {
  server.streams = false;
  let asked = 0;
  follow(() => { asked += 1; return Promise.resolve('unavailable'); });
  await until(() => states.includes('unavailable'));
  await new Promise((resolve) => { setTimeout(resolve, 60); });
  expect(asked).toBe(1);
  expect(server.followed).toEqual([]);
});

test('a server that comes back is found', async () => {
  server.streams = false;
  follow();
  await until(() => states.includes('reconnecting'));
  server.streams = true;
  await until(() => states.includes('live'));
});

test('an ended session is not followed any more', async () => {
  follow();
  await until(() => states.includes('live'));
  server.push({ topic: 'state', state: 'ended', cause: { code: 'memory', text: 'it used more memory than allowed' } });
  await until(() => states.includes('ended'));
  await new Promise((resolve) => { setTimeout(resolve, 60); });
  expect(server.followed.length).toBe(1);
  expect(events.at(-1)).toMatchObject({ state: 'ended', cause: { code: 'memory' } });
});

test('a server that counts anew is read from its beginning', async () => {
  follow();
  for (const text of ['1', '2', '3']) server.push({ topic: 'stdout', text });
  await until(() => texts().length === 3);
  server.renumber();
  server.push({ topic: 'stdout', text: 'new' });
  server.drop();
  await until(() => texts().includes('new'));
  expect(renumbered).toBe(1);
  expect(texts()).toEqual(['1', '2', '3', 'new']);
});

test('after a gap the count goes on behind it', async () => {
  follow();
  await until(() => states.includes('live'));
  server.push({ topic: 'gap', from: 1, to: 40, seq: 40 });
  await until(() => events.some((event) => event.topic === 'gap'));
  server.drop();
  await until(() => server.followed.length === 2);
  expect(server.followed[1]!.url).toContain('after=40');
});

test('a message that cannot be read is skipped', async () => {
  follow();
  await until(() => states.includes('live'));
  (follower as unknown as { take(data: unknown): void }).take('{not json');
  server.push({ topic: 'stdout', text: 'fine' });
  await until(() => texts().length === 1);
});

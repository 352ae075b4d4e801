import { afterEach, beforeEach, expect, test } from 'vitest';
import { Client, Problem, explain, sentence } from '../src/api/client';
import { FakeServer, json, problem } from './fake-server';

let server: FakeServer;
let client: Client;
let unauthorized = 0;
beforeEach(async () => {
  server = new FakeServer();
  await server.start();
  unauthorized = 0;
  client = new Client({ base: server.base, token: 'T', onUnauthorized: () => { unauthorized += 1; } });
});
afterEach(() => server.stop());

test('a script is sent as the contract says, and the run that was kept is told', async () => {
  server.routes.set('POST /v1/sessions/s_1/exec', (_q, _b, response) => json(response, 200, { data: { v: [1, 2] }, stdout: 'hi\n' }, { 'Myelin-Run': 'r_7' }));
  expect(await client.exec('s_1', 'v = [1, 2]', { return: ['v'], keep: true, title: 'two' })).toEqual({ data: { v: [1, 2] }, stdout: 'hi\n', run: 'r_7' });
  const [seen] = server.seen;
  expect(JSON.parse(seen!.body)).toEqual({ source: 'v = [1, 2]', return: ['v'], keep: true, title: 'two' });
  expect(seen!.headers.authorization).toBe('Bearer T');
  expect(seen!.headers.accept).toContain('application/cbor');
});

test('numbers come as typed arrays where the server has CBOR', async () => {
  server.routes.set('POST /v1/sessions/s_1/exec', (_q, _b, response) => {
    response.writeHead(200, { 'Content-Type': 'application/cbor' });
    response.end(Buffer.from('a2' + '6464617461' + 'a16174' + 'd85648000000000000f83f' + '667374646f757460'.replace(/60$/, '60'), 'hex'));
  });
  const { data, stdout } = await client.exec('s_1', '', { return: ['t'] });
  expect(data).toEqual({ t: new Float64Array([1.5]) });
  expect(stdout).toBe('');
});

test('an error of a script carries its class and line', async () => {
  server.routes.set('POST /v1/sessions/s_1/exec', (_q, _b, response) => problem(response, 422, 'call_failed', 'the script failed',
    { class: 'ZeroDivisionError', text: 'division by zero', line: 3, stdout: 'a\n' }));
  const error = await client.exec('s_1', '1/0').catch((caught: unknown) => caught) as Problem;
  expect(error).toBeInstanceOf(Problem);
  expect([error.status, error.code, error.script.line, error.script.stdout]).toEqual([422, 'call_failed', 3, 'a\n']);
  expect(explain(error)).toBe('ZeroDivisionError: division by zero');
});

test('a token that is not known is told once, a missing route by its status', async () => {
  server.routes.set('GET /v1/status', (_q, _b, response) => problem(response, 401, 'unauthorized', 'give a token'));
  await expect(client.status()).rejects.toMatchObject({ status: 401 });
  expect(unauthorized).toBe(1);
  await expect(client.engines()).rejects.toMatchObject({ status: 404, missing: true });
});

test('a server that is away gives an error that says so', async () => {
  await server.stop();
  const error = await client.sessions().catch((caught: unknown) => caught) as Problem;
  expect([error.status, error.code]).toEqual([0, 'unreachable']);
  await server.start();
});

test('an answer that is no problem document is still explained', async () => {
  server.routes.set('GET /v1/sessions', (_q, _b, response) => { response.writeHead(502, { 'Content-Type': 'text/html' }); response.end('<h1>Bad gateway</h1>'); });
  await expect(client.sessions()).rejects.toMatchObject({ status: 502, detail: 'The server answered 502 Bad Gateway.' });
});

test('filters, branches, checkpoints and runs go to their routes', async () => {
  server.routes.set('GET /v1/runs', (_q, _b, response) => json(response, 200, { runs: [], next: null }));
  server.routes.set('POST /v1/sessions/s_1/branch', (_q, _b, response) => json(response, 201, { sessions: [{ id: 's_2' }], evicted: [] }));
  server.routes.set('POST /v1/sessions/s_1/rewind', (_q, _b, response) => json(response, 200, { id: 's_1' }));
  server.routes.set('DELETE /v1/runs/r_1', (_q, _b, response) => { response.writeHead(204); response.end(); });
  await client.runs({ engine: 'nest', title: 'a&b', state: '' });
  expect(server.seen.at(-1)!.path).toBe('/v1/runs?engine=nest&title=a%26b');
  expect((await client.branch('s_1', 1, ['x'])).sessions[0]!.id).toBe('s_2');
  expect(JSON.parse(server.seen.at(-1)!.body)).toEqual({ count: 1, names: ['x'] });
  await client.rewind('s_1', 'c_1');
  expect(JSON.parse(server.seen.at(-1)!.body)).toEqual({ checkpoint: 'c_1' });
  expect(await client.deleteRun('r_1')).toBeUndefined();
});

test('without a token nothing is said of one: the browser sends its cookie', async () => {
  server.routes.set('GET /v1/me', (_q, _b, response) => json(response, 200, { username: 'anna' }));
  await new Client({ base: server.base, token: '' }).me();
  expect(server.seen.at(-1)!.headers.authorization).toBeUndefined();
});

test('a wrong password is no end of the sign-in, and a wait is told', async () => {
  server.routes.set('POST /v1/auth/password', (_q, _b, response) => problem(response, 401, 'unauthorized', 'the old password is wrong'));
  await expect(client.changePassword('a', 'b')).rejects.toMatchObject({ status: 401, retryAfter: null });
  expect(unauthorized).toBe(0);
  server.routes.set('POST /v1/auth/sign-in', (_q, _b, response) => {
    response.writeHead(429, { 'Content-Type': 'application/problem+json', 'Retry-After': '12' });
    response.end(JSON.stringify({ status: 429, code: 'too_many', detail: 'too many failed attempts' }));
  });
  const error = await client.signIn('anna', 'x').catch((caught: unknown) => caught) as Problem;
  expect([error.status, error.retryAfter, sentence(error.detail)]).toEqual([429, 12, 'Too many failed attempts.']);
  expect(JSON.parse(server.seen.at(-1)!.body)).toEqual({ username: 'anna', password: 'x', cookie: true, client: 'page' });
});

test('a password that has to be changed first is told once for all calls', async () => {
  let told = 0;
  const one = new Client({ base: server.base, token: 'T', onMustChange: () => { told += 1; } });
  server.routes.set('GET /v1/sessions', (_q, _b, response) => problem(response, 403, 'password_change_required', 'choose a password of your own first'));
  await expect(one.sessions()).rejects.toMatchObject({ status: 403 });
  expect(told).toBe(1);
});

test('names in addresses are written as such', async () => {
  server.routes.set('PUT /v1/groups/g_1/members/a%2Fb%20c', (_q, _b, response) => { response.writeHead(204); response.end(); });
  expect(await client.addMember('g_1', 'a/b c')).toBeUndefined();
  server.routes.set('DELETE /v1/users/u_1', (_q, _b, response) => { response.writeHead(204); response.end(); });
  await client.deleteUser('u_1', 'a&b');
  expect(server.seen.at(-1)!.path).toBe('/v1/users/u_1?to=a%26b');
});

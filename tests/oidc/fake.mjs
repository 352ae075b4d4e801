// fake.mjs PORT: an OpenID provider that lets everybody in at once, and can be told to do wrong: POST /plan {...} replaces the plan,
// GET /seen counts the requests. Nothing but Node.
import { createHash, createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const keys = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }), other: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  small: generateKeyPairSync('rsa', { modulusLength: 1024 }), ec: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
};
const listed = (name, more = {}) => ({ ...keys[name].publicKey.export({ format: 'jwk' }), kid: name, use: 'sig', ...more });
const b64 = (it) => Buffer.from(it).toString('base64url');
const codes = new Map();
let plan = {}, seen = {}, count = 0;

function token(claims) {
  const { alg = 'RS256', key = 'rsa', kid = key, header = {} } = plan.sign ?? {};
  const text = `${b64(JSON.stringify({ alg, kid: kid ?? undefined, typ: 'JWT', ...header }))}.${b64(JSON.stringify(claims))}`;
  let signature = '';
  if (alg === 'HS256') signature = createHmac('sha256', createPublicKey(keys.rsa.privateKey).export({ type: 'spki', format: 'pem' })).update(text).digest();
  else if (alg !== 'none') signature = sign('sha256', Buffer.from(text), { key: keys[key].privateKey, dsaEncoding: 'ieee-p1363' });
  return `${text}.${plan.broken_signature ? b64(Buffer.alloc(256, 7)) : b64(signature)}`;
}

function faulty(response, fault) {
  if (fault === 'slow') {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    const timer = setInterval(() => response.write(' '), 300); // never quite silent
    response.on('close', () => clearInterval(timer));
  } else if (fault === 'huge') {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    const more = () => { while (!response.destroyed && response.write(Buffer.alloc(65536, 32))); };
    response.on('drain', more);
    more();
  } else if (typeof fault === 'number') {
    response.writeHead(fault, { 'Content-Type': 'text/html', Location: `${issuer}/elsewhere` }).end('<h1>no</h1>');
  } else {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(typeof fault === 'string' ? fault : JSON.stringify(fault));
  }
}

const answers = {
  '/.well-known/openid-configuration': (_, response) => faulty(response, plan.discovery_fault ?? {
    issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/jwks`,
    response_types_supported: ['code'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['RS256'], ...plan.discovery }),
  '/jwks': (_, response) => faulty(response, plan.jwks_fault ?? { keys: plan.keys ?? [listed('ec'), listed('rsa'), listed('small')] }),
  '/authorize': ({ query }, response) => {
    const code = `code-${++count}`;
    codes.set(code, { nonce: query.get('nonce'), challenge: query.get('code_challenge'), redirect_uri: query.get('redirect_uri') });
    const back = new URL(query.get('redirect_uri'));
    for (const [name, value] of Object.entries({ code, state: query.get('state'), ...plan.back })) if (value !== null) back.searchParams.set(name, value);
    response.writeHead(302, { Location: back.href }).end();
  },
  '/token': ({ form, authorization }, response) => {
    if (plan.token_fault !== undefined) return faulty(response, plan.token_fault);
    const known = codes.get(form.get('code'));
    codes.delete(form.get('code'));
    const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
    if (!known || known.challenge !== challenge || known.redirect_uri !== form.get('redirect_uri') || authorization !== `Basic ${Buffer.from('lab:hush').toString('base64')}`)
      return response.writeHead(400, { 'Content-Type': 'application/json' }).end('{"error":"invalid_grant"}');
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, sub: 'sub-1', aud: 'lab', exp: now + 300, iat: now, nonce: known.nonce, preferred_username: 'anna', email: 'anna@lab.example', email_verified: true, ...plan.claims };
    for (const [name, value] of Object.entries(claims)) if (value === null) delete claims[name];
    for (const name of ['exp', 'iat', 'nbf']) if (typeof claims[name] === 'string') claims[name] = now + Number(claims[name]);
    faulty(response, { access_token: 'access', token_type: 'Bearer', id_token: plan.id_token ?? token(claims) });
  },
  '/userinfo': ({ authorization }, response) => faulty(response, authorization === 'Bearer access' ? plan.userinfo : 401),
  '/plan': ({ body }, response) => { plan = JSON.parse(body); if (plan.list) plan.keys = plan.list.map((name) => listed(name, plan.listed)); response.end('{}'); },
  '/seen': (_, response) => { response.end(JSON.stringify(seen)); },
};

createServer((request, response) => {
  const url = new URL(request.url, issuer), pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    seen[url.pathname] = (seen[url.pathname] ?? 0) + 1;
    const body = Buffer.concat(pieces).toString();
    const answer = answers[url.pathname];
    if (!answer) return response.writeHead(404).end();
    return answer({ query: url.searchParams, body, form: new URLSearchParams(body), authorization: request.headers.authorization }, response);
  });
}).listen(port, '127.0.0.1', () => console.log('listening'));

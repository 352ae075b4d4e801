// provider.mjs PORT [all] [localhost]: oidc-provider, as an institute might run it, with its own pages to sign in and to consent; any password will do.
// Whoever signs in there as sub-NAME is called NAME. Clients: rs256 and es256 (both with a secret, sent in either way), public.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]), options = process.argv.slice(3);
const host = options.includes('localhost') ? 'localhost' : '127.0.0.1'; // another site than 127.0.0.1, to a browser
const jwk = (kind, options, more) => ({ ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), use: 'sig', ...more });
const client = (client_id, more) => ({
  client_id, client_secret: `secret of ${client_id}/+%`, redirect_uris: ['http://127.0.0.1/v1/auth/oidc/callback'],
  grant_types: ['authorization_code'], response_types: ['code'], ...more,
});
const provider = new Provider(`http://${host}:${port}`, {
  clients: [
    client('rs256', { id_token_signed_response_alg: 'RS256', token_endpoint_auth_method: 'client_secret_basic' }),
    client('es256', { id_token_signed_response_alg: 'ES256', token_endpoint_auth_method: 'client_secret_basic' }),
    client('public', { client_secret: undefined, token_endpoint_auth_method: 'none' }),
    client('hs256', { id_token_signed_response_alg: 'HS256', token_endpoint_auth_method: 'client_secret_basic' }),
  ],
  jwks: { keys: [jwk('rsa', { modulusLength: 2048 }, { kid: 'r', alg: 'RS256' }), jwk('ec', { namedCurve: 'P-256' }, { kid: 'e', alg: 'ES256' })] },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'] },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'HS256'] },
  // Either way is right by the standard: in the ID token, or to be asked for.
  conformIdTokenClaims: !options.includes('all'),
  pkce: { required: () => true, methods: ['S256'] },
  cookies: { keys: ['only for tests'] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => {
      const name = sub.replace(/^sub-/, '');
      return { sub, preferred_username: name, email: `${name}@lab.example`, email_verified: true, groups: ['/teaching', 'nowhere'] };
    },
  }),
});
provider.Client.prototype.redirectUriAllowed = (uri) => /^http:\/\/(127\.0\.0\.1|localhost):\d+\/v1\/auth\/oidc\/callback$/.test(uri);
provider.on('server_error', (_, error) => console.error(error));
provider.listen(port, '127.0.0.1', () => console.log('listening'));

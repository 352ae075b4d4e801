// Links into the page carry secrets in their fragment, which browsers send nowhere: #token=…, #token=…&open=session/ID, #reset=….

export interface Entry { token: string | null; reset: string | null; path: string }

/** Nothing: an ordinary address of the page. */
export function parseEntry(hash: string): Entry | null {
  const text = hash.replace(/^#/, '');
  if (text.startsWith('/') || !/^(token|reset|open)=/.test(text)) return null;
  const fragment = new URLSearchParams(text);
  const open = /^(session|run)\/([\w.-]+)$/.exec(fragment.get('open') ?? '');
  return { token: fragment.get('token'), reset: fragment.get('reset') || null, path: !open ? '/' : open[1] === 'run' ? `/runs/${open[2]}` : `/session/${open[2]}` };
}

/** The page's own address is `base`; what it opens is a session or a run. */
export function linkTo(base: string, token: string, kind: 'session' | 'run', id: string): string {
  const url = new URL('.', base);
  return `${url.origin}${url.pathname}#token=${token}&open=${kind}/${id}`;
}

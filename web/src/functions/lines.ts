// The lines that make the form's call from elsewhere: a shell with curl, Python, our command line.

export const languages = [['curl', 'curl'], ['python', 'Python'], ['cli', 'Command line']] as const;
export type Language = (typeof languages)[number][0];

/** For a shell: plain words stay as they are. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;
}

/** A value as Python writes it. */
export function pythonValue(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(', ')}]`;
  return `{${Object.entries(value as object).map(([key, one]) => `${JSON.stringify(key)}: ${pythonValue(one)}`).join(', ')}}`;
}

const python_words = new Set(('False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return '
  + 'try while with yield').split(' '));
const isName = (text: string): boolean => /^[A-Za-z_]\w*$/.test(text) && !python_words.has(text);

export function curlLine(base: string, id: string, given: Record<string, unknown>, anonymous: boolean): string {
  return ['curl -s', ...(anonymous ? [] : ['-H "Authorization: Bearer $MYELIN_TOKEN"']), `-H 'Content-Type: application/json'`, quoted(`${base}/v1/functions/${id}`),
    `-d ${quoted(JSON.stringify({ parameters: given }))}`].join(' \\\n  ');
}

export function pythonLine(base: string, id: string, given: Record<string, unknown>): string {
  const [pack = '', name = ''] = id.split('.'), names = Object.keys(given);
  const plain = isName(pack) && isName(name) && names.every(isName);
  const call = plain ? `client.functions.${id}(${names.map((one) => `${one}=${pythonValue(given[one])}`).join(', ')})`
    : `client.functions[${JSON.stringify(id)}](**${pythonValue(given)})`;
  return `from myelin import Client\nclient = Client(${JSON.stringify(base)})   # the token: $MYELIN_TOKEN\nresult = ${call}`;
}

export function cliLine(base: string, id: string, given: Record<string, unknown>): string {
  const words = Object.entries(given).map(([name, value]) => `--${quoted(name)} ${quoted(typeof value === 'string' ? value : JSON.stringify(value))}`);
  return [`MYELIN_URL=${quoted(base)} myelin functions ${quoted(id)}`, ...words].join(words.length > 2 ? ' \\\n  ' : ' ');
}

export function linesOf(language: Language, base: string, id: string, given: Record<string, unknown>, anonymous: boolean): string {
  return language === 'curl' ? curlLine(base, id, given, anonymous) : language === 'python' ? pythonLine(base, id, given) : cliLine(base, id, given);
}

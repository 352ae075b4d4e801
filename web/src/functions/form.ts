// The form of a declared function: what stands in its fields, and the parameters of the call that it makes. Whatever the page lets
// through the server checks again, and names the field.

import type { Parameter, ValueType } from '../api/types';

/** `value`: what is written; `none`: null; `left`: not given, so that the function has its own default. */
export type Mode = 'value' | 'none' | 'left';
export interface Field { mode: Mode; text: string; more: string } // more: the names of a session's values
export type Fields = Record<string, Field>;
export type Read = { value: unknown } | { left: true } | { wrong: string };

export const isNumber = (type: ValueType): boolean => type.kind === 'number' || type.kind === 'integer';
/** Bounded on both sides: it gets a slider. */
export const slides = (type: ValueType): boolean => isNumber(type) && type.minimum !== undefined && type.maximum !== undefined && type.maximum > type.minimum;

export function modes(parameter: Parameter): Mode[] {
  const all: Mode[] = ['value'];
  if (parameter.nullable && parameter.kind !== 'null') all.push('none');
  if (!parameter.required && !('default' in parameter)) all.push('left');
  return all;
}

export function write(type: ValueType, value: unknown): string {
  if (value === undefined) return '';
  if (type.kind === 'text' || type.kind === 'file' || type.kind === 'run') return typeof value === 'string' ? value : '';
  if ((type.kind === 'list' || type.kind === 'array') && Array.isArray(value)) {
    if (value.length > 0 && value.every((one) => typeof one === 'number')) return value.join(', ');
    if (type.kind === 'array' && value.length > 1 && value.every((row) => Array.isArray(row) && row.every((one) => typeof one === 'number'))) return value.map((row) => (row as number[]).join(', ')).join('\n');
    if (type.items?.kind === 'text' && value.length > 0 && value.every((one) => typeof one === 'string' && /^[^\s,;[\]"'][^,;\n"]*$/.test(one))) return value.join(', ');
  }
  return JSON.stringify(value);
}

export function initial(parameter: Parameter): Field {
  const more = '', can = modes(parameter);
  if (!('default' in parameter)) {
    const text = parameter.kind === 'boolean' ? 'false' : parameter.kind === 'choice' ? JSON.stringify(parameter.choices?.[0] ?? null)
      : parameter.required && slides(parameter) ? String(parameter.kind === 'integer' ? Math.ceil(parameter.minimum!) : parameter.minimum) : '';
    return { mode: can.includes('left') ? 'left' : 'value', text, more };
  }
  if (parameter.default === null && can.includes('none')) return { mode: 'none', text: parameter.kind === 'boolean' ? 'false' : '', more };
  if (parameter.kind === 'session' && parameter.default && typeof parameter.default === 'object') {
    const { session, names } = parameter.default as { session?: unknown; names?: unknown };
    return { mode: 'value', text: String(session ?? ''), more: Array.isArray(names) ? names.join(', ') : '' };
  }
  return { mode: 'value', text: write(parameter, parameter.default), more };
}

export function initialFields(parameters: readonly Parameter[]): Fields {
  return Object.fromEntries(parameters.map((one) => [one.name, initial(one)]));
}

function range(type: ValueType, value: number): string | null {
  const { minimum, maximum } = type;
  if ((minimum === undefined || value >= minimum) && (maximum === undefined || value <= maximum)) return null;
  if (minimum !== undefined && maximum !== undefined) return `must be between ${minimum} and ${maximum}`;
  return minimum !== undefined ? `must be at least ${minimum}` : `must be at most ${maximum}`;
}

const number_text = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function readNumber(type: ValueType, text: string): Read {
  if (type.kind === 'integer' && !/^[+-]?\d+$/.test(text)) return { wrong: `must be a whole number, not “${text}”` };
  if (!number_text.test(text)) return { wrong: /^[+-]?\d+,\d+$/.test(text) ? `write ${text.replace(',', '.')}, with a point` : `must be a number, not “${text}”` };
  const value = Number(text);
  if (!Number.isFinite(value)) return { wrong: 'is too large' };
  const wrong = range(type, value);
  return wrong ? { wrong } : { value };
}

function readJson(text: string): Read {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return { wrong: 'is no JSON: write 1.5, "text", [1, 2], {"a": 1}, true or null' };
  }
}

const words = (text: string): string[] => text.split(/[\s,;]+/).filter(Boolean);

/** Numbers with commas or spaces between. */
function readNumbers(type: ValueType, text: string): number[] | string {
  const out: number[] = [];
  for (const [i, word] of words(text).entries()) {
    const one = readNumber(type, word);
    if ('wrong' in one) return `value ${i + 1} ${one.wrong}`;
    out.push((one as { value: number }).value);
  }
  return out;
}

function readList(type: ValueType, text: string): Read {
  if (text.startsWith('[')) {
    const all = readJson(text);
    return 'wrong' in all ? { wrong: 'is no list in JSON: write [1, 2, 3]' } : all;
  }
  const items: ValueType = type.kind === 'array' ? { kind: 'number', ...(type.minimum !== undefined ? { minimum: type.minimum } : {}), ...(type.maximum !== undefined ? { maximum: type.maximum } : {}) } : type.items ?? { kind: 'any' };
  let value: unknown[];
  if (type.kind === 'array' && /[\n;]/.test(text)) {
    const rows = text.split(/[\n;]+/).filter((row) => row.trim()).map((row) => readNumbers(items, row));
    const bad = rows.findIndex((row) => typeof row === 'string');
    if (bad >= 0) return { wrong: `row ${bad + 1}: ${String(rows[bad])}` };
    if (rows.some((row) => row.length !== rows[0]!.length)) return { wrong: 'needs rows of one length' };
    value = rows;
  } else if (type.kind === 'array' || isNumber(items)) {
    const all = readNumbers(items, text);
    if (typeof all === 'string') return { wrong: all };
    value = all;
  } else if (items.kind === 'text') {
    value = text.split(/[,;\n]+/).map((one) => one.trim()).filter(Boolean);
  } else if (items.kind === 'any') {
    value = text === '' ? [] : text.split(/[,;\n]+/).map((one) => one.trim()).filter(Boolean).map((one) => { const read = readJson(one); return 'value' in read ? read.value : one; });
  } else {
    return text === '' ? { value: [] } : { wrong: 'write a list in JSON: [ … ]' };
  }
  if (type.length !== undefined && value.length !== type.length) return { wrong: `needs ${type.length} values, not ${value.length}` };
  return { value };
}

export function read(parameter: Parameter, field: Field): Read {
  if (field.mode === 'left') return { left: true };
  if (field.mode === 'none') return { value: null };
  const text = field.text.trim();
  if (text === '' && !['text', 'list', 'array', 'null'].includes(parameter.kind)) return parameter.required ? { wrong: 'is needed' } : { left: true };
  switch (parameter.kind) {
    case 'integer': case 'number': return readNumber(parameter, text);
    case 'boolean': return { value: text === 'true' };
    case 'text': return { value: field.text };
    case 'file': case 'run': return { value: text };
    case 'null': return { value: null };
    case 'list': case 'array': return readList(parameter, text);
    case 'session': {
      const names = words(field.more);
      return names.length ? { value: { session: text, names } } : { wrong: 'say which of its values, with commas between' };
    }
    case 'object': {
      const all = readJson(text);
      return 'value' in all && (all.value === null || typeof all.value !== 'object' || Array.isArray(all.value)) ? { wrong: 'must be an object in JSON: {"a": 1}' } : all;
    }
    default: return readJson(text);
  }
}

export interface Filled { given: Record<string, unknown>; wrong: Record<string, string> }

/** The call's parameters: those that differ from their defaults, or have none. `more`: an object in JSON, of a function that takes other names too. */
export function parametersOf(parameters: readonly Parameter[], fields: Fields, more = ''): Filled {
  const given: Record<string, unknown> = {}, wrong: Record<string, string> = {};
  for (const parameter of parameters) {
    const one = read(parameter, fields[parameter.name] ?? initial(parameter));
    if ('wrong' in one) wrong[parameter.name] = one.wrong;
    else if ('value' in one && !('default' in parameter && JSON.stringify(one.value) === JSON.stringify(parameter.default))) set(given, parameter.name, one.value);
  }
  if (more.trim()) {
    const all = readJson(more);
    if ('wrong' in all || all === null || !('value' in all) || typeof all.value !== 'object' || all.value === null || Array.isArray(all.value)) wrong['…'] = 'must be an object in JSON: {"name": value}';
    else for (const [name, value] of Object.entries(all.value)) set(given, name, value);
  }
  return { given, wrong };
}

// A name "__proto__" is only a name.
function set(object: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
}

/** Fields that show these parameters; the others show their defaults. */
export function fieldsOf(parameters: readonly Parameter[], given: Record<string, unknown>): Fields {
  return Object.fromEntries(parameters.map((one) => [one.name, Object.hasOwn(given, one.name) ? initial({ ...one, default: given[one.name] }) : initial(one)]));
}

/** The server's words for single fields ("xs[3]" is in the field xs), and those of fields that are not here. */
export function sayAtFields(errors: readonly { field: string; message: string }[], names: readonly string[]): { wrong: Record<string, string>; rest: string[] } {
  const wrong: Record<string, string> = {}, rest: string[] = [];
  for (const { field, message } of errors) {
    const name = names.find((one) => field === one || field.startsWith(one + '[') || field.startsWith(one + '.'));
    if (name === undefined) { rest.push(`${field} ${message}`); continue; }
    const text = field === name ? message : `${field.slice(name.length)} ${message}`;
    wrong[name] = wrong[name] ? `${wrong[name]}; ${text}` : text;
  }
  return { wrong, rest };
}

// Sliders: 0 … steps. Over more than three decades they are logarithmic.
export const logarithmic = (type: ValueType): boolean => slides(type) && type.minimum! > 0 && type.maximum! / type.minimum! >= 1000;
export function steps(type: ValueType): number {
  const wide = type.maximum! - type.minimum!;
  return type.kind === 'integer' && !logarithmic(type) && wide <= 1000 ? Math.floor(type.maximum!) - Math.ceil(type.minimum!) : 400;
}
export function fromSlider(type: ValueType, position: number): number {
  const low = type.minimum!, high = type.maximum!, part = position / steps(type);
  if (part <= 0) return type.kind === 'integer' ? Math.ceil(low) : low;
  if (part >= 1) return type.kind === 'integer' ? Math.floor(high) : high;
  if (type.kind === 'integer') return Math.round(logarithmic(type) ? low * (high / low) ** part : Math.ceil(low) + part * (Math.floor(high) - Math.ceil(low)));
  const value = logarithmic(type) ? low * (high / low) ** part : low + part * (high - low);
  // As round as one step allows.
  const step = logarithmic(type) ? value / 100 : (high - low) / steps(type);
  const digits = Math.max(0, Math.min(20, -Math.floor(Math.log10(step))));
  return Math.min(high, Math.max(low, step >= 1 ? Math.round(value) : Number(value.toFixed(digits))));
}
export function toSlider(type: ValueType, value: number): number {
  const low = type.minimum!, high = type.maximum!;
  if (!Number.isFinite(value)) return 0;
  const part = logarithmic(type) ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.round(Math.min(1, Math.max(0, part)) * steps(type));
}

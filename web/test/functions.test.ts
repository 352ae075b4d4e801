import { describe, expect, it } from 'vitest';
import { NdArray } from '../src/api/cbor';
import type { Parameter, SweepResult } from '../src/api/types';
import { look, pictureSource, shown } from '../src/functions/figures';
import { fieldsOf, fromSlider, initial, initialFields, modes, parametersOf, read, sayAtFields, slides, steps, toSlider, type Field } from '../src/functions/form';
import { cliLine, curlLine, pythonLine, pythonValue, quoted } from '../src/functions/lines';
import { Newest } from '../src/functions/newest';
import { axisOf, choices, curves, valuesOf } from '../src/functions/sweep';
import { wrongPath } from '../src/functions/templates';

const parameter = (of: Partial<Parameter>): Parameter => ({ name: 'x', required: false, kind: 'number', ...of });
const field = (text: string, mode: Field['mode'] = 'value', more = ''): Field => ({ mode, text, more });
const value = (of: Partial<Parameter>, text: string): unknown => { const one = read(parameter(of), field(text)); return 'value' in one ? one.value : one; };
const wrong = (of: Partial<Parameter>, text: string): string => { const one = read(parameter(of), field(text)); return 'wrong' in one ? one.wrong : 'nothing: ' + JSON.stringify(one); };

describe('what stands in a field', () => {
  it('is read by its kind', () => {
    expect(value({}, ' 1.5e3 ')).toBe(1500);
    expect(value({ kind: 'integer' }, '-7')).toBe(-7);
    expect(value({ kind: 'boolean' }, 'true')).toBe(true);
    expect(value({ kind: 'text' }, ' as it is ')).toBe(' as it is ');
    expect(value({ kind: 'text' }, '')).toBe('');
    expect(value({ kind: 'choice', choices: ['a', 2, null] }, '2')).toBe(2);
    expect(value({ kind: 'array' }, '1, 2 3;')).toEqual([[1, 2, 3]]);
    expect(value({ kind: 'array' }, '1, 2 3')).toEqual([1, 2, 3]);
    expect(value({ kind: 'array' }, '1 2\n3 4')).toEqual([[1, 2], [3, 4]]);
    expect(value({ kind: 'array' }, '[[1, 2], [3, 4]]')).toEqual([[1, 2], [3, 4]]);
    expect(value({ kind: 'array' }, '')).toEqual([]);
    expect(value({ kind: 'list', items: { kind: 'integer' } }, '1 2')).toEqual([1, 2]);
    expect(value({ kind: 'list', items: { kind: 'text' } }, 'soma, apical dendrite')).toEqual(['soma', 'apical dendrite']);
    expect(value({ kind: 'list' }, '1, two, true')).toEqual([1, 'two', true]);
    expect(value({ kind: 'any' }, '{"a": [1, null]}')).toEqual({ a: [1, null] });
    expect(read(parameter({ kind: 'session', required: true }), field('s_1', 'value', 'v, t'))).toEqual({ value: { session: 's_1', names: ['v', 't'] } });
  });

  it('says in words what is wrong', () => {
    expect(wrong({ required: true }, '')).toBe('is needed');
    expect(wrong({}, 'a')).toBe('must be a number, not “a”');
    expect(wrong({}, '0,5')).toBe('write 0.5, with a point');
    expect(wrong({}, 'NaN')).toMatch(/number/);
    expect(wrong({}, '1e999')).toBe('is too large');
    expect(wrong({ kind: 'integer' }, '1.5')).toMatch(/whole number/);
    expect(wrong({ minimum: 0, maximum: 1 }, '2')).toBe('must be between 0 and 1');
    expect(wrong({ minimum: 0 }, '-1')).toBe('must be at least 0');
    expect(wrong({ kind: 'array', maximum: 5 }, '1, 9')).toBe('value 2 must be at most 5');
    expect(wrong({ kind: 'array' }, '1 2\n3')).toBe('needs rows of one length');
    expect(wrong({ kind: 'list', length: 3, items: { kind: 'number' } }, '1 2')).toBe('needs 3 values, not 2');
    expect(wrong({ kind: 'list' }, '[1,')).toMatch(/JSON/);
    expect(wrong({ kind: 'object' }, '[1]')).toMatch(/object/);
    expect(wrong({ kind: 'any' }, 'word')).toMatch(/JSON/);
    expect(wrong({ kind: 'session', required: true }, 's_1')).toMatch(/which of its values/);
  });

  it('may be nothing: none, or left to the function', () => {
    const optional = parameter({ nullable: true, default: null });
    expect(modes(optional)).toEqual(['value', 'none']);
    expect(initial(optional).mode).toBe('none');
    expect(read(optional, initial(optional))).toEqual({ value: null });
    const own = parameter({});
    expect(modes(own)).toEqual(['value', 'left']);
    expect(read(own, initial(own))).toEqual({ left: true });
    expect(read(parameter({ default: 3 }), field(''))).toEqual({ left: true });
  });
});

describe('the parameters of a call', () => {
  const all = [parameter({ name: 'a', default: 1 }), parameter({ name: 'b', kind: 'boolean', default: false }), parameter({ name: 'c', kind: 'list', required: true }),
    parameter({ name: 'd', kind: 'array', default: [[1, 2], [3, 4]] }), parameter({ name: '__proto__', kind: 'text', default: 'x' })];

  it('are those that differ from their defaults', () => {
    const fields = initialFields(all);
    expect(parametersOf(all, fields)).toEqual({ given: { c: [] }, wrong: {} });
    fields.a!.text = '2';
    fields.b!.text = 'true';
    expect(parametersOf(all, fields).given).toEqual({ a: 2, b: true, c: [] });
    expect(fields.d!.text).toBe('1, 2\n3, 4');
  });

  it('go into the form and come out again', () => {
    const given = { a: -0.25, b: true, c: ['one', { two: 2 }], d: [[5, 6]] };
    expect(parametersOf(all, fieldsOf(all, given)).given).toEqual(given);
    const texts = [parameter({ name: 't', kind: 'list', items: { kind: 'text' } })];
    for (const t of [['a', 'b c'], ['with, comma'], [' padded'], ['']]) expect(parametersOf(texts, fieldsOf(texts, { t })).given).toEqual({ t });
    const session = [parameter({ name: 's', kind: 'session', required: true })];
    expect(parametersOf(session, fieldsOf(session, { s: { session: 's_1', names: ['v'] } })).given).toEqual({ s: { session: 's_1', names: ['v'] } });
  });

  it('may have other names, where the function takes them', () => {
    expect(parametersOf([], {}, '{"z": 1}')).toEqual({ given: { z: 1 }, wrong: {} });
    expect(parametersOf([], {}, '[1]').wrong).toHaveProperty('…');
    expect(parametersOf([], {}, '{').wrong).toHaveProperty('…');
  });

  it('are told to be wrong at their fields', () => {
    expect(sayAtFields([{ field: 'a', message: 'is needed' }, { field: 'c[3]', message: 'must be 1' }, { field: 'c[4]', message: 'too' }, { field: 'q', message: 'is not known' }], ['a', 'c']))
      .toEqual({ wrong: { a: 'is needed', c: '[3] must be 1; [4] too' }, rest: ['q is not known'] });
  });
});

describe('a slider', () => {
  it('is there for bounded numbers', () => {
    expect([slides(parameter({ minimum: 0, maximum: 1 })), slides(parameter({ minimum: 0 })), slides(parameter({ kind: 'text' }))]).toEqual([true, false, false]);
  });
  it('gives round numbers within the bounds, and finds its place again', () => {
    for (const of of [{ minimum: -5, maximum: 5 }, { minimum: 0.1, maximum: 1000 }, { kind: 'integer' as const, minimum: 1, maximum: 10 }, { kind: 'integer' as const, minimum: 1, maximum: 100_000 }, { minimum: 1e-12, maximum: 3e-12 }]) {
      const one = parameter(of);
      for (let position = 0; position <= steps(one); position += Math.max(1, Math.floor(steps(one) / 40))) {
        const at = fromSlider(one, position);
        expect(at).toBeGreaterThanOrEqual(one.minimum!);
        expect(at).toBeLessThanOrEqual(one.maximum!);
        if (one.kind === 'integer') expect(Number.isInteger(at)).toBe(true);
        else expect(Math.abs(toSlider(one, at) - position)).toBeLessThanOrEqual(1);
        expect(String(at).replace(/[-.]|e.*$/g, '').length).toBeLessThan(8);
      }
      expect(fromSlider(one, steps(one))).toBe(one.maximum);
    }
    expect(steps(parameter({ kind: 'integer', minimum: 1, maximum: 10 }))).toBe(9);
  });
});

describe('lines for elsewhere', () => {
  const given = { amp: 0.2, name: "it's", on: true, list: [1, null] };
  it('quote for the shell and for Python', () => {
    expect(quoted("a'b")).toBe(`'a'\\''b'`);
    expect(quoted('plain-1.5')).toBe('plain-1.5');
    expect(pythonValue({ a: [true, null, 'x"y'], b: 1.5 })).toBe('{"a": [True, None, "x\\"y"], "b": 1.5}');
    const curl = curlLine('http://h:1', 'c.f', given, false);
    expect(curl).toContain('"Authorization: Bearer $MYELIN_TOKEN"');
    expect(curl).toContain(`-d '{"parameters":{"amp":0.2,"name":"it'\\''s","on":true,"list":[1,null]}}'`);
    expect(curlLine('http://h:1', 'c.f', {}, true)).not.toContain('Authorization');
    expect(pythonLine('http://h:1', 'c.f', given)).toContain(`client.functions.c.f(amp=0.2, name="it's", on=True, list=[1, None])`);
    expect(pythonLine('http://h:1', 'c.f', { lambda: 1 })).toContain('client.functions["c.f"](**{"lambda": 1})');
    expect(cliLine('http://h:1', 'c.f', { amp: 0.2 })).toBe('MYELIN_URL=http://h:1 myelin functions c.f --amp 0.2');
    expect(cliLine('http://h:1', 'c.f', given)).toContain(`--list '[1,null]'`);
  });
});

describe('what is shown of a result', () => {
  const declared = { plots: [{ kind: 'line' as const, x: 't', y: ['v'], title: '' }, { kind: 'picture' as const, name: 'p' }], results: { v: { unit: 'mV' }, t: { unit: 'ms' }, n: { unit: 'Hz', help: 'rate' } } };
  it('is what the declaration says', () => {
    const all = shown({ t: Float64Array.of(0, 1, 2), v: Float64Array.of(-65, -60, -70), n: 3, p: { media_type: 'image/png', base64: 'aGk=' } }, declared);
    expect(all.figures.map((one) => one.kind)).toEqual(['curves', 'picture']);
    expect(all.figures[0]).toMatchObject({ title: 'v over t', xLabel: 't (ms)', unit: 'mV', ordered: true, dots: false });
    expect(all.values).toEqual([{ name: 'n', value: 3, unit: 'Hz', help: 'rate' }]);
  });
  it('finds rows, nested names, x that goes back, and says what does not fit', () => {
    const plots = [{ kind: 'dots' as const, x: 'fi.amp', y: ['fi.rate'] }];
    const fi = shown({ fi: { amp: [0, 2, 1], rate: [0, 4, 2] } }, { plots, results: {} });
    expect(fi.figures[0]).toMatchObject({ kind: 'curves', dots: true, ordered: false });
    expect(fi.values).toEqual([]);
    const rows = shown({ t: [0, 1], v: new NdArray([3, 2], Float64Array.of(1, 2, 3, 4, 5, 6)) }, { plots: [{ kind: 'line', x: 't', y: ['v'] }], results: {} });
    expect(rows.figures[0]!.kind === 'curves' && rows.figures[0]!.curves.map(({ name }) => name)).toEqual(['v[0]', 'v[1]', 'v[2]']);
    expect(shown({ t: [0, 1, 2], v: [1] }, { plots: [{ kind: 'line', x: 't', y: ['v'] }], results: {} }).notes).toHaveLength(1);
  });
  it('draws by itself what has no plots, and lists the rest', () => {
    const all = shown({ t: Float64Array.of(0, 1, 2), v: Float64Array.of(1, 2, 3), n: 4 }, { plots: [], results: { v: { unit: 'mV' } } });
    expect(all.figures).toHaveLength(1);
    expect(all.values.map(({ name }) => name)).toEqual(['t', 'n'].filter((name) => all.values.some((one) => one.name === name)));
    expect(all.values.some(({ name }) => name === 'n')).toBe(true);
    expect(shown([2, 5], { plots: [], results: {} }).values).toEqual([{ name: 'data', value: [2, 5], unit: '', help: '' }]);
  });
  it('takes pictures of known types only', () => {
    expect(pictureSource({ media_type: 'text/html', base64: 'aGk=' })).toBeNull();
    expect(pictureSource({ media_type: 'image/png', base64: '"onload=' })).toBeNull();
    expect(look({ a: { b: 1 } }, 'a.b')).toBe(1);
    expect(look({}, 'constructor')).toBeUndefined();
  });
});

describe('a sweep', () => {
  it('has an axis from the declaration', () => {
    expect(axisOf(parameter({ minimum: 0, maximum: 2 }))).toEqual({ name: 'x', from: '0', to: '2', count: '10', logarithmic: false });
    expect(axisOf(parameter({ kind: 'integer', minimum: 1, maximum: 4 })).count).toBe('4');
    expect(axisOf(parameter({ minimum: 0.1, maximum: 1000 })).logarithmic).toBe(true);
    expect(valuesOf({ name: 'x', from: '0', to: '1', count: '5', logarithmic: false }, parameter({}))).toEqual([0, 0.25, 0.5, 0.75, 1]);
    expect(valuesOf({ name: 'x', from: '1', to: '100', count: '3', logarithmic: true }, parameter({}))).toEqual([1, 10, 100]);
    expect(valuesOf({ name: 'x', from: '1', to: '3', count: '9', logarithmic: false }, parameter({ kind: 'integer' }))).toEqual([1, 2, 3]);
    for (const [from, to, count] of [['', '1', '2'], ['0', 'b', '2'], ['0', '1', '0'], ['0', '1', '1e9'], ['0', '9', '3']])
      expect(typeof valuesOf({ name: 'x', from: from!, to: to!, count: count!, logarithmic: false }, parameter({ minimum: 0, maximum: 5 }))).toBe('string');
  });
  it('is drawn over its axes, complete or not', () => {
    const result: SweepResult = { axes: {}, points: 6, done: 5, failed: 0, errors: [],
      results: { n: new NdArray([3, 2], Float64Array.of(1, 2, 3, 4, 5, NaN)), v: new NdArray([3, 2, 2], Float64Array.of(0, 1, 0, 2, 0, 3, 0, 4, 0, 5, NaN, NaN)), t: new NdArray([3, 2, 2], Float64Array.from({ length: 12 }, (_, i) => i % 2)), s: ['a'] } };
    const axes = [[10, 20, 30], [1, 2]];
    expect(choices(result, axes)).toEqual([{ name: 'n', scalar: true }, { name: 'v', scalar: false }, { name: 't', scalar: false }]);
    const n = curves(result, 'n', 'each', ['a', 'b'], axes, []);
    expect(n.curves.map(({ name, y }) => [name, ...Array.from(y)])).toEqual([['b 1', 1, 3, 5], ['b 2', 2, 4, NaN]]);
    expect(curves(result, 'v', 'max', ['a', 'b'], axes, []).curves[0]!.y).toEqual([1, 3, 5]);
    const each = curves(result, 'v', 'each', ['a', 'b'], axes, [{ kind: 'line', x: 't', y: ['v'] }]);
    expect(each.xName).toBe('t');
    expect(each.curves).toHaveLength(5);
    expect(each.curves[0]!.name).toBe('a 10, b 1');
  });
});

describe('live calls', () => {
  it('run one at a time, and the newest wins', async () => {
    const began: number[] = [], free: (() => void)[] = [];
    const newest = new Newest<number>((n) => new Promise((done) => { began.push(n); free.push(done); }), 1);
    const wait = (): Promise<void> => new Promise((done) => setTimeout(done, 10));
    newest.ask(1);
    newest.ask(2);
    await wait();
    expect(began).toEqual([2]);
    newest.ask(3);
    newest.ask(4);
    await wait();
    expect(began).toEqual([2]);
    free.shift()!();
    await wait();
    expect(began).toEqual([2, 4]);
    newest.ask(5);
    newest.forget();
    free.shift()!();
    await wait();
    expect(began).toEqual([2, 4]);
    expect(newest.busy).toBe(false);
  });
});

describe('a path of a file', () => {
  it('is a plain one', () => {
    expect(['na.mod', 'parts/soma.py', 'a-b.inc'].map(wrongPath)).toEqual(['', '', '']);
    for (const bad of ['', 'x', '../a.py', '/a.py', 'a b.py', '.py']) expect(wrongPath(bad)).not.toBe('');
  });
});

// Traces of their own times to the one aligned table that the plot wants. Few points stay exactly what they are; many become the
// lowest and highest of each pixel column, in the order in which they came.

export interface Line { x: ArrayLike<number>; y: ArrayLike<number> }
export type Table = [number[], ...(number | null)[][]];

function lowerBound(x: ArrayLike<number>, value: number): number {
  let low = 0, high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function align(lines: readonly Line[], x0: number, x1: number, columns: number): Table {
  if (lines.length === 0 || !(x1 > x0)) return [[], ...lines.map(() => [])];
  // One sample more on either side, so that lines reach the edge.
  const parts = lines.map(({ x }) => [Math.max(0, lowerBound(x, x0) - 1), Math.min(x.length, lowerBound(x, x1) + 1)] as const);
  const first = lines[0]!.x;
  const shared = lines.every(({ x }, i) => x.length === first.length && parts[i]![0] === parts[0]![0] && parts[i]![1] === parts[0]![1]
    && x[parts[i]![0]] === first[parts[0]![0]] && x[x.length - 1] === first[first.length - 1]);
  const longest = Math.max(...parts.map(([from, to]) => to - from));
  if (shared && longest <= columns * 16) {
    const [from, to] = parts[0]!;
    return [slice(first, from, to) as number[], ...lines.map(({ y }) => slice(y, from, to))];
  }
  if (!shared && parts.reduce((sum, [from, to]) => sum + to - from, 0) <= columns * 4) return join(lines, parts);
  return columnsOf(lines, parts, x0, x1, columns);
}

function slice(values: ArrayLike<number>, from: number, to: number): (number | null)[] {
  const out: (number | null)[] = [];
  for (let i = from; i < to; ++i) out.push(Number.isFinite(values[i]!) ? values[i]! : null);
  return out;
}

function join(lines: readonly Line[], parts: readonly (readonly [number, number])[]): Table {
  const all = new Set<number>();
  lines.forEach(({ x }, l) => { for (let i = parts[l]![0]; i < parts[l]![1]; ++i) all.add(x[i]!); });
  const x = [...all].sort((a, b) => a - b);
  const index = new Map(x.map((value, i) => [value, i]));
  const columns = lines.map((line, l) => {
    const column: (number | null)[] = new Array<number | null>(x.length).fill(null);
    for (let i = parts[l]![0]; i < parts[l]![1]; ++i) {
      const value = line.y[i]!;
      column[index.get(line.x[i]!)!] = Number.isFinite(value) ? value : null;
    }
    return column;
  });
  return [x, ...columns];
}

function columnsOf(lines: readonly Line[], parts: readonly (readonly [number, number])[], x0: number, x1: number, columns: number): Table {
  const width = (x1 - x0) / columns;
  const x: number[] = [];
  for (let c = 0; c < columns; ++c) x.push(x0 + (c + 0.25) * width, x0 + (c + 0.75) * width);
  const out = lines.map((line, l) => {
    const [from, to] = parts[l]!;
    const column: (number | null)[] = new Array<number | null>(2 * columns).fill(null);
    let at = -1, low = 0, high = 0, lowFirst = true;
    const put = (): void => {
      if (at < 0) return;
      column[2 * at] = lowFirst ? low : high;
      column[2 * at + 1] = lowFirst ? high : low;
    };
    for (let i = from; i < to; ++i) {
      const value = line.y[i]!;
      if (!Number.isFinite(value)) continue;
      const c = Math.min(columns - 1, Math.max(0, Math.floor((line.x[i]! - x0) / width)));
      if (c !== at) {
        put();
        at = c; low = high = value; lowFirst = true;
      } else if (value < low) { low = value; lowFirst = false; }
      else if (value > high) { high = value; lowFirst = true; }
    }
    put();
    return column;
  });
  return [x, ...out];
}

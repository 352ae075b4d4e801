// Numbers and times as people read them.

export function bytes(value: number | undefined | null): string {
  if (!value) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0, left = value;
  while (left >= 999.5 && at < units.length - 1) { left /= 1000; at += 1; }
  return `${left < 9.95 && at > 0 ? left.toFixed(1) : left.toFixed(0)} ${units[at]}`;
}

export function clock(iso: string | undefined | null): string {
  if (!iso) return '–';
  const then = new Date(iso), now = new Date();
  if (Number.isNaN(then.getTime())) return '–';
  const time = then.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return then.toDateString() === now.toDateString() ? time : `${then.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`;
}

export function seconds(value: number): string {
  if (value < 10) return value.toFixed(1) + ' s';
  if (value < 100) return value.toFixed(0) + ' s';
  if (value < 6000) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

export function count(value: number): string { return value.toLocaleString('en').replace(/,/g, '\u202f'); }

export function took(from: string | undefined, to: string | undefined): string {
  if (!from || !to) return '–';
  return seconds(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000));
}

const engine_names: Record<string, string> = { nest: 'NEST', neuron: 'NEURON', jaxley: 'Jaxley', python: 'Python', native: 'built in' };
export function engineName(name: string): string { return engine_names[name] ?? name; }

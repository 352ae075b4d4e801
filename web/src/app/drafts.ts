// The script and the wanted values of each session, kept in this browser, so that a reload loses nothing. The newest 40 are kept.

export interface Draft { source: string; returns: string; at: number }
const key = 'myelin-drafts', most = 40;

function all(): Record<string, Draft> {
  try {
    return JSON.parse(localStorage.getItem(key) ?? '{}') as Record<string, Draft>;
  } catch {
    return {};
  }
}

export function readDraft(id: string): Draft | null { return all()[id] ?? null; }

export function keepDraft(id: string, source: string, returns: string): void {
  const drafts = all();
  drafts[id] = { source, returns, at: Date.now() };
  const newest = Object.entries(drafts).sort((a, b) => b[1].at - a[1].at).slice(0, most);
  try {
    localStorage.setItem(key, JSON.stringify(Object.fromEntries(newest)));
  } catch { /* full or forbidden: the draft lives in the page only */ }
}

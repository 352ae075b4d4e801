// Where the page is, in the address's fragment: #/, #/session/ID, #/compare/A/B, #/runs, #/runs/ID, #/runs/ID/ID, #/engines,
// #/functions, #/functions/ID, #/functions/ID/VERSION, #/packages/NAME, #/account, #/users, #/groups, #/audit.

import { parseEntry } from './entry';

export interface Route { view: 'start' | 'session' | 'compare' | 'runs' | 'run' | 'compare-runs' | 'engines' | 'functions' | 'function' | 'package' | 'account' | 'users' | 'groups' | 'audit'; ids: string[] }

export function parseRoute(hash: string): Route {
  const parts = hash.replace(/^#\/?/, '').split('/').filter(Boolean).map(decoded);
  const [head, ...ids] = parts;
  if (head === 'session' && ids.length === 1) return { view: 'session', ids };
  if (head === 'compare' && ids.length === 2) return { view: 'compare', ids };
  if (head === 'engines' || head === 'account' || head === 'users' || head === 'groups' || head === 'audit') return { view: head, ids: [] };
  if (head === 'functions') return { view: ids.length ? 'function' : 'functions', ids };
  if (head === 'packages' && ids.length === 1) return { view: 'package', ids };
  if (head === 'runs') return { view: ids.length >= 2 ? 'compare-runs' : ids.length === 1 ? 'run' : 'runs', ids };
  return { view: 'start', ids: [] };
}

function decoded(text: string): string {
  try { return decodeURIComponent(text); } catch { return text; }
}

class Router {
  route = $state<Route>(parseRoute(''));
  start(): void {
    const read = (): void => {
      // A link with a secret, opened in a tab that has the page already.
      if (parseEntry(location.hash)) location.reload();
      else this.route = parseRoute(location.hash);
    };
    window.addEventListener('hashchange', read);
    read();
  }
}

export const router = new Router();
export function go(path: string): void { location.hash = '#' + path; }

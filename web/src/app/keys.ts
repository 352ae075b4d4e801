// Keys of the page. Those of a view are announced by it; nothing is heard while somebody types, except with Ctrl.

export interface Key { key: string; shown: string; what: string; run: () => void }

const stack: Key[][] = [];

export const standing: { shown: string; what: string }[] = [
  { shown: 'Ctrl ↵', what: 'run the script (in the editor)' },
  { shown: 'Esc Tab', what: 'leave the editor with the keyboard' },
  { shown: '?', what: 'this list' },
  { shown: 'drag', what: 'zoom into a time of a plot; double click shows all' },
];

/** Announces keys; call the answer to take them back. */
export function announce(keys: Key[]): () => void {
  stack.push(keys);
  return () => { stack.splice(stack.indexOf(keys), 1); };
}

export function announced(): Key[] { return stack.flat(); }

export function listen(): void {
  window.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.composedPath()[0];
    if (target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))) return;
    if (document.querySelector('dialog[open]') && event.key !== '?') return;
    for (let i = stack.length - 1; i >= 0; --i) {
      const found = stack[i]!.find((one) => one.key === event.key);
      if (!found) continue;
      event.preventDefault();
      found.run();
      return;
    }
  });
}

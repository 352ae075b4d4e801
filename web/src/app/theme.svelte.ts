// Light, dark, or what the system says. Plots read their colours from the style sheet, and again when `version` changes.

type Choice = 'system' | 'light' | 'dark';

class Theme {
  choice = $state<Choice>('system');
  version = $state(0);

  start(): void {
    const kept = localStorage.getItem('myelin-theme');
    if (kept === 'light' || kept === 'dark') this.choice = kept;
    this.apply();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { this.version += 1; });
  }

  next(): void {
    this.choice = this.choice === 'system' ? 'light' : this.choice === 'light' ? 'dark' : 'system';
    if (this.choice === 'system') localStorage.removeItem('myelin-theme');
    else localStorage.setItem('myelin-theme', this.choice);
    this.apply();
  }

  private apply(): void {
    if (this.choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.choice;
    this.version += 1;
  }
}

export const theme = new Theme();

export function colour(name: string): string { return getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim(); }
/** Okabe–Ito, in an order in which neighbours differ most; the first is the page's own line colour. */
export function traceColours(): string[] { return Array.from({ length: 8 }, (_, i) => colour('trace-' + i)); }

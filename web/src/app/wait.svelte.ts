// How long the server wants one to wait, counted down.

import { Problem } from '../api/client';
import { app } from './state.svelte';

export class Wait {
  private until = $state(0);
  /** Takes the time of a refusal; false: it was none. */
  take(error: unknown): boolean {
    if (!(error instanceof Problem) || (error.status !== 429 && error.status !== 503) || !error.retryAfter) return false;
    app.now = Date.now();
    this.until = app.now + error.retryAfter * 1000;
    return true;
  }
  get left(): number { return Math.max(0, Math.ceil((this.until - app.now) / 1000)); }
  get text(): string {
    const left = this.left;
    return left > 90 ? `${Math.ceil(left / 60)} minutes` : `${left} s`;
  }
}

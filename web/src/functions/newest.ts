// One call at a time, and of those that were asked for meanwhile only the newest.

export class Newest<T> {
  private waiting: { value: T } | null = null;
  private running = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `call` never throws. `delay_ms`: so long nothing newer may come before the first call begins. */
  constructor(private readonly call: (value: T) => Promise<void>, private readonly delay_ms = 40) {}

  get busy(): boolean { return this.running; }

  ask(value: T): void {
    this.waiting = { value };
    clearTimeout(this.timer);
    if (!this.running) this.timer = setTimeout(() => void this.go(), this.delay_ms);
  }

  /** Forgets what waits; what runs goes on. */
  forget(): void {
    clearTimeout(this.timer);
    this.waiting = null;
  }

  private async go(): Promise<void> {
    if (this.running) return;
    this.running = true;
    while (this.waiting) {
      const { value } = this.waiting;
      this.waiting = null;
      await this.call(value);
    }
    this.running = false;
  }
}

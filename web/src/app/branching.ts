// A branch of a session, and the scripts with which both may go on.

import { Problem } from '../api/client';
import type { Session } from '../api/types';
import { keepDraft } from './drafts';
import { nextScripts } from './examples';
import { go } from './router.svelte';
import { app } from './state.svelte';

/** Why a session can't branch, as far as is known before asking; empty if it may. */
export function whyNoBranch(session: Session | null): string {
  if (!session || session.state === 'ended') return 'The session has ended.';
  const engine = app.engine(session.engine);
  if (engine?.branches === false && !engine.saves) return engine.why_not ?? 'This engine cannot branch.';
  return '';
}

export async function branch(session: Session, source: string, returns: string): Promise<void> {
  try {
    const made = await app.client.branch(session.id, 1, [app.freeName(session.name + ' · branch')]);
    const twin = made.sessions[0];
    if (!twin) return;
    if (made.evicted?.length) app.say(`To make room, ${made.evicted.length} older checkpoint${made.evicted.length > 1 ? 's were' : ' was'} let go.`);
    const next = nextScripts(session.engine, source, returns);
    keepDraft(session.id, next.same, next.returns);
    keepDraft(twin.id, next.changed, next.returns);
    app.soon();
    go(`/compare/${session.id}/${twin.id}`);
  } catch (error) {
    if (error instanceof Problem && error.missing) app.fail(new Error('This server makes no branches. A newer version of Myelin does.'));
    else app.fail(error);
  }
}

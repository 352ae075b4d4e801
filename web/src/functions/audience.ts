// For whom a function is.

/** "me", "group:A,B", "all", "public". */
export function audienceText(to: string): string {
  if (to === 'me') return 'for you';
  if (to === 'all') return 'for all who sign in';
  if (to === 'public') return 'public';
  return to.startsWith('group:') ? `for ${to.slice(6).split(',').join(', ')}` : to;
}

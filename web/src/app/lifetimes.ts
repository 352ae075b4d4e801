// How long a token may live, as the page offers it.

const day = 86_400;
export const lifetimes: { seconds: number; text: string }[] = [
  { seconds: day, text: 'for a day' }, { seconds: 7 * day, text: 'for a week' }, { seconds: 30 * day, text: 'for 30 days' },
  { seconds: 90 * day, text: 'for 90 days' }, { seconds: 365 * day, text: 'for a year' }, { seconds: 0, text: 'until it is revoked' },
];
